//! what a service needs around the bus: arguments, logging, shutdown
