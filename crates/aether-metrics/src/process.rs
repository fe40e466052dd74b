//! The metrics of the process, by the names that all clients of Prometheus use.
//!
//! Source: <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>. Read from /proc at each scrape;
//! on systems without it there are none.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

/// Reads the metrics of the process.
#[derive(Debug)]
pub(crate) struct ProcessCollector;

impl Collector for ProcessCollector {
    #[cfg(not(target_os = "linux"))]
    fn encode(&self, _: DescriptorEncoder<'_>) -> fmt::Result {
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        linux::encode(encoder)
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fmt;

    use procfs::process::{LimitValue, Process};
    use procfs::{WithCurrentSystemInfo as _, ticks_per_second};
    use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
    use prometheus_client::metrics::MetricType;
    use prometheus_client::registry::Unit;

    use crate::families::Families;

    pub(super) fn encode(mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Ok((process, stat)) = Process::myself()
            .and_then(|process| Ok((process.stat()?, process)).map(|(stat, process)| (process, stat)))
        else {
            return Ok(());
        };
        let seconds = (stat.utime + stat.stime) as f64 / ticks_per_second() as f64;
        let help = "Processor time of the process, in user and system mode";
        encoder
            .encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&seconds, None)?;
        let mut to = Families::new(encoder);
        let resident = stat.rss_bytes().get();
        let bytes = Some(Unit::Bytes);
        to.gauge("process_resident_memory", "Memory that the process holds", bytes, [(vec![], resident)])?;
        // Only the allocator itself could report memory that it holds without using it.
        if let Some(anonymous) = process.status().ok().and_then(|status| status.rssanon) {
            let help = "Memory that the allocator and the stacks of the process hold, used or not";
            let bytes = Some(Unit::Bytes);
            to.gauge("process_anonymous_memory", help, bytes, [(vec![], anonymous * 1024)])?;
        }
        let bytes = Some(Unit::Bytes);
        to.gauge(
            "process_virtual_memory",
            "Addresses that the process has reserved",
            bytes,
            [(vec![], stat.vsize)],
        )?;
        to.gauge("process_threads", "Threads of the process", None, [(vec![], stat.num_threads)])?;
        if let Ok(open) = process.fd_count() {
            to.gauge("process_open_fds", "Open file descriptors", None, [(vec![], open as u64)])?;
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            to.gauge("process_max_fds", "The limit of open file descriptors", None, [(vec![], most)])?;
        }
        if let Ok(boot) = procfs::boot_time_secs() {
            let start = boot as f64 + stat.starttime as f64 / ticks_per_second() as f64;
            let help = "Start time of the process since 1970";
            to.gauge("process_start_time", help, Some(Unit::Seconds), [(vec![], start)])?;
        }
        Ok(())
    }
}
