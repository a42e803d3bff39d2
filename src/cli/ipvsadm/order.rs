//! The order of a listing.
//!
//! ipvsadm subtracts addresses and looks at the sign of 32 bits, so 192.0.2.1 comes before 10.0.0.1, and the order
//! may go round in circles. What a sort makes of that depends on the sort: it is the C library's merge sort, halves
//! and all, or the same services would be listed in another order.

use std::net::{IpAddr, SocketAddr};

use crate::control::view::{ServerView, ServiceView};
use crate::director::name::ServiceKey;

/// Services in ipvsadm's order.
pub(super) fn sorted_services(services: &[ServiceView]) -> Vec<&ServiceView> {
    let mut sorted: Vec<_> = services.iter().collect();
    merge_sort(&mut sorted, &|a, b| compare_services(&a.service, &b.service));
    sorted
}

/// The servers of a service in ipvsadm's order.
pub(super) fn sorted_servers(servers: &[ServerView]) -> Vec<&ServerView> {
    let mut sorted: Vec<_> = servers.iter().collect();
    merge_sort(&mut sorted, &|a, b| compare_addresses(a.address, b.address));
    sorted
}

/// Less than 0 if `a` comes before `b`.
fn compare_services(a: &ServiceKey, b: &ServiceKey) -> i32 {
    let (a, b) = (rank(a), rank(b));
    let by_mark = a.0.wrapping_sub(b.0).cast_signed();
    let by_kind = a.1.cmp(&b.1) as i32;
    first([by_mark, by_kind]).unwrap_or_else(|| match (a.2, b.2) {
        (Some(a), Some(b)) => compare_addresses(a, b),
        _ => 0,
    })
}

/// Mark; family and protocol; address.
fn rank(key: &ServiceKey) -> (u32, (bool, u8), Option<SocketAddr>) {
    match *key {
        ServiceKey::Address { protocol, address } => (0, (address.is_ipv6(), protocol as u8), Some(address)),
        ServiceKey::Mark { mark, v6 } => (mark.get(), (v6, 0), None),
    }
}

fn compare_addresses(a: SocketAddr, b: SocketAddr) -> i32 {
    let words = if a.is_ipv6() { 4 } else { 1 };
    let (wa, wb) = (address_words(a.ip()), address_words(b.ip()));
    let by_address = (0..words).map(|i| wa[i].wrapping_sub(wb[i]).cast_signed());
    let by_port = i32::from(a.port()) - i32::from(b.port());
    first(by_address.chain([by_port])).unwrap_or(0)
}

fn first(differences: impl IntoIterator<Item = i32>) -> Option<i32> {
    differences.into_iter().find(|&difference| difference != 0)
}

/// The words of an address; an IPv4 address lies in the first.
fn address_words(ip: IpAddr) -> [u32; 4] {
    match ip {
        IpAddr::V4(ip) => [ip.to_bits(), 0, 0, 0],
        IpAddr::V6(ip) => {
            let bits = ip.to_bits().to_be_bytes();
            std::array::from_fn(|i| u32::from_be_bytes([0, 1, 2, 3].map(|byte| bits[4 * i + byte])))
        }
    }
}

/// The merge sort of the C library: the lower half is the shorter one, equal elements stay in order.
fn merge_sort<T: Copy>(list: &mut [T], compare: &impl Fn(T, T) -> i32) {
    if list.len() <= 1 {
        return;
    }
    let (lower, upper) = list.split_at_mut(list.len() / 2);
    merge_sort(lower, compare);
    merge_sort(upper, compare);
    let (mut lower, mut upper) = (&*lower, &*upper);
    let mut merged = Vec::with_capacity(lower.len() + upper.len());
    while let (Some((&a, lower_rest)), Some((&b, upper_rest))) = (lower.split_first(), upper.split_first()) {
        if compare(a, b) <= 0 {
            merged.push(a);
            lower = lower_rest;
        } else {
            merged.push(b);
            upper = upper_rest;
        }
    }
    merged.extend_from_slice(lower);
    merged.extend_from_slice(upper);
    list.copy_from_slice(&merged);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(a: &str, b: &str) -> bool {
        compare_services(&a.parse().unwrap(), &b.parse().unwrap()) < 0
    }

    #[test]
    fn marks_come_last_and_large_differences_turn_round() {
        assert!(before("tcp:10.0.0.1:80", "fwm:1"));
        assert!(before("fwm:1", "fwm:2"));
        assert!(before("fwm:1", "fwm6:1"));
        assert!(before("fwm:4294967295", "tcp:10.0.0.1:80"), "the mark is -1");
        assert!(before("tcp:10.0.0.2:80", "udp:10.0.0.1:80"));
        assert!(before("udp:10.0.0.1:80", "tcp:[2001:db8::1]:80"));
        assert!(before("tcp:10.0.0.1:80", "tcp:10.0.0.1:443"));
        assert!(before("tcp:10.0.0.1:80", "tcp:100.0.0.1:80"));
        assert!(before("tcp:192.0.2.1:80", "tcp:10.0.0.1:80"), "the difference is more than 31 bits");
        assert!(before("tcp:[2001:db8::1]:80", "tcp:[2001:db8::2]:80"));
    }

    #[test]
    fn sorting_is_stable_and_survives_an_order_that_is_none() {
        for len in 0..40_i32 {
            let mut list: Vec<(i32, i32)> = (0..len).map(|i| (i * 7 % 5, i)).collect();
            let mut expected = list.clone();
            expected.sort_by_key(|&(key, _)| key);
            merge_sort(&mut list, &|a, b| a.0 - b.0);
            assert_eq!(list, expected);
            merge_sort(&mut list, &|a, b| (a.1 * 31 % 3 - b.1 * 17 % 5) % 2);
            list.sort_unstable();
            expected.sort_unstable();
            assert_eq!(list, expected, "nothing is lost");
        }
    }
}
