//! The number of connections, in total and by source.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// Counts the connections of a kind.
#[derive(Debug)]
pub(crate) struct Admission {
    max_total: usize,
    max_per_source: usize,
    /// The connections of each source that has any, so the table is as small as their number.
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// Why a connection is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Busy {
    Total,
    Source,
}

impl Busy {
    /// The bound, as it is called in the settings.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Total => "connections_total",
            Self::Source => "connections_per_source",
        }
    }
}

/// The place of one connection. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    source: IpAddr,
}

impl Admission {
    pub(crate) fn new(max_total: usize, max_per_source: usize) -> Arc<Self> {
        Arc::new(Self { max_total, max_per_source, open: Mutex::default() })
    }

    pub(crate) fn enter(self: &Arc<Self>, source: IpAddr) -> Result<Permit, Busy> {
        let mut open = self.open.lock();
        if open.values().sum::<usize>() >= self.max_total {
            return Err(Busy::Total);
        }
        let of_source = open.entry(source).or_default();
        if *of_source >= self.max_per_source {
            return Err(Busy::Source);
        }
        *of_source += 1;
        Ok(Permit { admission: Arc::clone(self), source })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.admission.open.lock();
        if let Some(connections) = open.get_mut(&self.source) {
            *connections -= 1;
            if *connections == 0 {
                open.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_by_source_and_in_total_and_given_back() {
        let admission = Admission::new(3, 2);
        let source = |number: u8| IpAddr::from([192, 0, 2, number]);
        let first = admission.enter(source(1)).unwrap();
        let _second = admission.enter(source(1)).unwrap();
        assert_eq!(admission.enter(source(1)).unwrap_err(), Busy::Source);
        let _third = admission.enter(source(2)).unwrap();
        assert_eq!(admission.enter(source(3)).unwrap_err(), Busy::Total);
        drop(first);
        assert!(admission.enter(source(1)).is_ok());
        assert_eq!(admission.open.lock().len(), 2, "sources without connections are forgotten");
    }
}
