//! Source hashing (`ip_vs_sh.c`): a client always gets the same server, as long as the list stays.

use super::hash::{fold, hash_32};
use super::{Change, Options, Request, Schedule};
use crate::director::server::{Counts, Destination};
use crate::packet::flow::FlowKey;

const BUCKETS: usize = 256;

/// Buckets, each with the index of a server.
#[derive(Debug)]
pub struct Sh {
    buckets: Box<[u32]>,
    options: Options,
}

impl Sh {
    /// Of a service without servers.
    pub fn new(options: Options) -> Self {
        Self { buckets: Box::default(), options }
    }

    /// The bucket of a client, moved on by `offset` (`ip_vs_sh_hashkey`).
    fn bucket(&self, flow: &FlowKey, offset: u32) -> usize {
        let source = flow.source();
        let port = if self.options.port { u32::from(source.port()) } else { 0 };
        let hash = hash_32(fold(source.ip()).wrapping_add(port), 8);
        offset.wrapping_add(hash) as usize % BUCKETS
    }
}

impl Schedule for Sh {
    fn pick(&self, list: &[Destination], counts: &Counts, request: &Request<'_>) -> Option<usize> {
        let usable = |bucket: usize| {
            let index = *self.buckets.get(bucket)? as usize;
            Some((index, counts.usable(list.get(index)?)))
        };
        // With fallback the kernel's search starts at twice the bucket: its offset runs from the bucket on and
        // is added to the hash again.
        let first = self.bucket(request.flow, 0);
        let (index, is_usable) = usable(first)?;
        if is_usable || !self.options.fallback {
            return is_usable.then_some(index);
        }
        let offsets = (0..BUCKETS).map(|k| u32::try_from((k + first) % BUCKETS).unwrap_or(0));
        offsets
            .map_while(|offset| usable(self.bucket(request.flow, offset)))
            .find_map(|(index, is_usable)| is_usable.then_some(index))
    }

    /// Servers fill the buckets in list order, each as many in a row as its weight says, over and over. One
    /// with weight 0 keeps a bucket, so that its clients are not moved.
    fn changed(&self, change: Change, list: &[Destination]) -> Self {
        let options = if let Change::Flags(options) = change { options } else { self.options };
        let turns = (0u32..).zip(list).flat_map(|(i, d)| std::iter::repeat_n(i, d.weight.max(1) as usize));
        Self { buckets: turns.cycle().take(if list.is_empty() { 0 } else { BUCKETS }).collect(), options }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn the_buckets_of_known_clients() {
        let flow = |ip: &str, port| {
            FlowKey::new(6, (ip.parse::<IpAddr>().unwrap(), port).into(), "10.0.0.100:80".parse().unwrap())
        };
        let clients = ["192.0.2.1", "192.0.2.2", "198.51.100.7"];
        let sh = Sh::new(Options::default());
        assert_eq!(clients.map(|c| sh.bucket(&flow(c, 40000), 0)), [50, 148, 171]);
        let sh = Sh::new(Options { port: true, ..Options::default() });
        assert_eq!(clients.map(|c| sh.bucket(&flow(c, 40000), 0)), [214, 56, 79]);
    }
}
