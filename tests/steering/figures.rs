//! What steering costs, as ratios within one run, with room for a busy machine. The figures of the machine at hand:
//! `cargo test --test steering figures -- --nocapture --test-threads=1`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use xvs::xdp::steer::Rules;

use crate::frames::{TCP, tcp};
use crate::ranges::filling;
use crate::samples::{BACKEND, CLIENT_PORT, HTTP, nets};
use crate::{endpoint, load, rules, steering};

/// `services` services, each over `each` NAT servers of its own.
fn large(services: u32, each: u32) -> Rules {
    let vip = |number: u32| IpAddr::from(Ipv4Addr::from(0x0a64_0000 + number));
    let server = |number: u32| IpAddr::from(Ipv4Addr::from(0x0ac8_0000 + number));
    Rules {
        services: (0..services).map(|n| endpoint(TCP, vip(n), HTTP)).collect(),
        nat_servers: (0..services * each).map(|n| endpoint(TCP, server(n), BACKEND)).collect(),
        vips: (0..services).map(vip).collect(),
        host_addresses: (0..services).map(vip).collect(),
        ..Rules::default()
    }
}

#[test]
fn one_more_service() {
    for (services, each) in [(1_000, 10), (16_000, 4)] {
        let (before, after) = (large(services, each), large(services + 1, each));
        let mut steering = load();
        let start = Instant::now();
        steering.apply(&before).unwrap();
        let whole = start.elapsed();
        let mut times = Vec::new();
        for _ in 0..10 {
            let start = Instant::now();
            steering.apply(&after).unwrap();
            times.push(start.elapsed());
            steering.apply(&before).unwrap();
        }
        times.sort();
        let (least, median, most) = (times[0], times[5], times[9]);
        println!(
            "{services} services x {each} servers: all at once {whole:.1?}; \
             one more service {least:.2?} to {most:.2?}, median {median:.2?}"
        );
        // Reading the maps back for each change would cost as much as filling them.
        assert!(median * 10 < whole, "one more service takes {median:?}, all of them {whole:?}");
    }
}

#[test]
fn one_frame() {
    let net = &nets()[0];
    let hit = tcp(net.client, CLIENT_PORT, net.vip, HTTP);
    let pass = tcp(net.client, CLIENT_PORT, net.host, 22);
    let mut steering = steering(&rules());
    println!("verified: {:?} instructions", steering.verified_instructions().unwrap());
    let trial = steering.trial().unwrap();
    let time = |frame: &[u8]| trial.time(frame, 1_000_000).unwrap();
    let no_ranges = rules();
    // They differ in the destination, so no packet is told from them by protocol and port.
    let other_networks = Rules { ranges: filling(net, 22..=22), ..rules() };
    let other_ports = Rules { ranges: filling(net, 23..=23), ..rules() };
    let mut ratios = Vec::new();
    for round in 0..3 {
        steering.apply(&no_ranges).unwrap();
        let (service, without) = (time(&hit), time(&pass));
        steering.apply(&other_networks).unwrap();
        let (service_with, networks) = (time(&hit), time(&pass));
        steering.apply(&other_ports).unwrap();
        let ports = time(&pass);
        println!(
            "round {round}: a service hit {service:?}, with 64 ranges {service_with:?}; a pass {without:?}, with 64 \
             ranges to other ports {ports:?}, with 64 to other networks {networks:?}"
        );
        ratios.push(service_with.as_secs_f64() / service.as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    assert!(ratios[1] < 2.0, "a service's packet looks through ranges that it does not need: {ratios:?}");
}
