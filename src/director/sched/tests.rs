//! Choices against the kernel's: sequences recorded from IPVS (Linux 6.12), and slow oracles.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::{Change, Kind, Options, Schedule, Scheduler};
use crate::director::conn::state::{State, Status};
use crate::director::server::{Counts, Destination, ServerId};
use crate::director::service::{Method, Server};
use crate::packet::flow::FlowKey;

/// A service that is changed and asked as an operator would: servers are numbers, 1 is 10.1.0.11 and so on.
pub(crate) struct Pool {
    scheduler: Scheduler,
    list: Vec<Destination>,
    pub(crate) counts: Counts,
}

impl Pool {
    fn new(kind: Kind, options: Options) -> Self {
        Self { scheduler: Scheduler::new(kind, options), list: Vec::new(), counts: Counts::new(256) }
    }

    /// With servers added in this order.
    pub(crate) fn with(kind: Kind, options: Options, servers: &[(u32, u32)]) -> Self {
        let mut pool = Self::new(kind, options);
        servers.iter().for_each(|&(server, weight)| pool.add(server, weight));
        pool
    }

    fn change(&mut self, change: Change) {
        self.scheduler = self.scheduler.changed(change, &self.list);
    }

    pub(crate) fn add(&mut self, server: u32, weight: u32) {
        let address = SocketAddr::from(([10, 1, 0, u8::try_from(10 + server).unwrap()], 80));
        let method = Method::Nat;
        let new = Server { weight, ..Server::new(address, method) };
        self.list.insert(0, Destination::new(ServerId(server), &new));
        self.change(Change::Added);
    }

    fn index(&self, server: u32) -> usize {
        self.list.iter().position(|d| d.id.0 == server).unwrap()
    }

    fn edit(&mut self, server: u32, weight: u32) {
        let index = self.index(server);
        self.list[index].weight = weight;
        self.change(Change::Updated);
    }

    fn delete(&mut self, server: u32) {
        let index = self.index(server);
        self.list.remove(index);
        self.change(Change::Removed(index));
    }

    /// As `ipvsadm -E -s`: another scheduler starts afresh over the servers there are.
    fn switch(&mut self, kind: Kind, options: Options) {
        self.scheduler = Scheduler::new(kind, options).changed(Change::Updated, &self.list);
    }

    pub(crate) fn pick_for(&self, client: &str) -> Option<u32> {
        let flow = FlowKey::new(6, client.parse().unwrap(), "10.0.0.100:80".parse().unwrap());
        self.scheduler.pick(&self.list, &self.counts, &flow).map(|i| self.list[i].id.0)
    }

    fn pick(&self) -> Option<u32> {
        self.pick_for("10.0.1.1:4711")
    }

    /// The servers of the next `n` connections, as digits; `-` for none.
    fn next(&self, n: usize) -> String {
        (0..n).map(|_| self.pick().map_or_else(|| "-".to_owned(), |s| s.to_string())).collect()
    }

    fn sh(&self, clients: u8) -> String {
        let one =
            |c| self.pick_for(&format!("10.0.1.{c}:4711")).map_or_else(|| "-".to_owned(), |s| s.to_string());
        (1..=clients).map(one).collect()
    }
}

const PLAIN: Options = Options { fallback: false, port: false, third: false };

#[test]
fn rr_and_wrr_through_the_recorded_history_of_changes() {
    let mut pool = Pool::with(Kind::Rr, PLAIN, &[(1, 1), (2, 1)]);
    assert_eq!(pool.next(5), "21212");
    pool.add(3, 1);
    assert_eq!(pool.next(7), "1321321");
    pool.delete(2);
    assert_eq!(pool.next(4), "3131");
    pool.edit(3, 0);
    assert_eq!(pool.next(3), "111");
    pool.add(2, 3);
    pool.edit(3, 2);
    pool.switch(Kind::Wrr, PLAIN);
    assert_eq!(pool.next(14), "22323122323122");
    pool.edit(1, 4);
    assert_eq!(pool.next(13), "2312311212312");
    pool.edit(2, 0);
    assert_eq!(pool.next(8), "31131131");
}

#[test]
fn wrr_interleaves_as_the_kernel_does() {
    let pool = Pool::with(Kind::Wrr, PLAIN, &[(1, 4), (2, 3), (3, 2)]);
    assert_eq!(pool.next(18), "321121321321121321");
    let pool = Pool::with(Kind::Wrr, PLAIN, &[(1, 2), (2, 4)]);
    assert_eq!(pool.next(6), "212212");
    let pool = Pool::with(Kind::Wrr, PLAIN, &[(1, 6), (2, 4), (3, 2)]);
    assert_eq!(pool.next(12), "321121321121");
}

#[test]
fn sh_gives_the_recorded_clients_the_recorded_servers() {
    let mut pool = Pool::with(Kind::Sh, PLAIN, &[(1, 1), (2, 2), (3, 3)]);
    assert_eq!(pool.sh(24), "321213133331323233232121");
    pool.edit(2, 0);
    assert_eq!(pool.sh(24), "331313131313-3-333-33333");
    pool.switch(Kind::Sh, Options { fallback: true, port: false, third: false });
    assert_eq!(pool.sh(24), "331313131313333333333333");
}

#[test]
fn without_a_usable_server_there_is_no_choice() {
    for &kind in Kind::ALL {
        let mut pool = Pool::new(kind, PLAIN);
        assert_eq!(pool.pick(), None, "{kind:?} without servers");
        pool.add(1, 0);
        pool.add(2, 0);
        assert_eq!(pool.pick(), None, "{kind:?} with weights of 0");
        pool.switch(kind, Options { fallback: true, port: true, third: false });
        assert_eq!(pool.pick(), None, "{kind:?} with fallback");
    }
}

#[test]
fn one_usable_server_is_always_found() {
    for &kind in Kind::ALL {
        let mut pool = Pool::with(
            kind,
            Options { fallback: true, port: false, third: false },
            &[(1, 5), (2, 3), (3, 7)],
        );
        assert!(pool.pick().is_some());
        pool.edit(1, 0);
        pool.edit(3, 0);
        assert_eq!(pool.next(5), "22222", "{kind:?}");
        pool.delete(2);
        assert_eq!(pool.pick(), None);
    }
}

const ACTIVE: Status =
    Status { state: State::Established, inactive: false, no_output: false, removed: false };
const INACTIVE: Status = Status { state: State::TimeWait, inactive: true, ..ACTIVE };

/// The recorded lc and wlc history: connections stay open, one is closed, two are reset.
#[test]
fn lc_and_wlc_through_the_recorded_history_of_connections() {
    let mut pool = Pool::with(Kind::Lc, PLAIN, &[(1, 1), (2, 2), (3, 4)]);
    let open = |pool: &Pool, n| -> String {
        let one = |_| {
            let server = pool.pick().unwrap();
            pool.counts.opened(ServerId(server), ACTIVE);
            server.to_string()
        };
        (0..n).map(one).collect()
    };
    let close = |pool: &Pool, server| pool.counts.changed(ServerId(server), ACTIVE, INACTIVE);
    assert_eq!(open(&pool, 4), "3213");
    close(&pool, 2);
    assert_eq!(open(&pool, 2), "21");
    pool.switch(Kind::Wlc, PLAIN);
    assert_eq!(open(&pool, 4), "3233");
    close(&pool, 3);
    close(&pool, 1);
    assert_eq!(open(&pool, 1), "3");
}

proptest! {
    /// The oracle divides: the least load by weight as a fraction, the first of equals.
    #[test]
    fn wlc_takes_the_least_load_for_its_weight(
        servers in proptest::collection::vec((0u32..5, 0u8..20, 0u8..20), 1..8),
    ) {
        let mut pool = Pool::with(Kind::Wlc, PLAIN, &[]);
        for (n, &(weight, active, inactive)) in (1u32..).zip(&servers) {
            pool.add(n, weight);
            (0..active).for_each(|_| pool.counts.opened(ServerId(n), ACTIVE));
            (0..inactive).for_each(|_| pool.counts.opened(ServerId(n), INACTIVE));
        }
        let load = |d: &Destination| f64::from(pool.counts.overhead(d.id)) / f64::from(d.weight);
        let usable = pool.list.iter().filter(|d| d.weight > 0);
        let oracle = usable.min_by(|a, b| load(a).total_cmp(&load(b))).map(|d| d.id.0);
        prop_assert_eq!(pool.pick(), oracle);
    }

    /// Over one whole period every server gets exactly its weight.
    #[test]
    fn wrr_gives_every_server_its_weight(weights in proptest::collection::vec(0u32..12, 1..6)) {
        let servers: Vec<_> = (1u32..).zip(weights.iter().copied()).collect();
        let pool = Pool::with(Kind::Wrr, PLAIN, &servers);
        let step = weights.iter().copied().filter(|&w| w > 0).reduce(super::wrr::gcd).unwrap_or(1);
        let period = weights.iter().sum::<u32>() / step;
        let mut given = vec![0; weights.len()];
        for _ in 0..period * 3 {
            given[pool.pick().unwrap() as usize - 1] += 1;
        }
        let expected: Vec<_> = weights.iter().map(|w| w / step * 3).collect();
        prop_assert_eq!(given, expected);
    }
}
