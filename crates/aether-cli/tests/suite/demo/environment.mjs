// The helpers of the pages want the folder of a log, which these tests do not look at. It is imported before them.

process.env.AETHER_LOGS ??= "none";
