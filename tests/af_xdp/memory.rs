//! Packet memory: huge pages, and whose frames are whose.

use xvs::xdp::open::open;
use xvs::xdp::options::SocketOptions;
use xvs::xdp::umem::Umem;

use crate::SMALL;
use crate::pair::Pair;

/// How many huge pages the kernel would give now: those free and not promised, and those it may make beyond.
fn huge_pages_to_be_had() -> u64 {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    let pages = |name: &str| {
        let count = memory.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        count.map_or(0, |count| count.trim().parse::<u64>().unwrap())
    };
    let beyond = std::fs::read_to_string("/proc/sys/vm/nr_overcommit_hugepages").unwrap_or_default();
    let beyond = beyond.trim().parse().unwrap_or(0_u64).saturating_sub(pages("HugePages_Surp"));
    pages("HugePages_Free").saturating_sub(pages("HugePages_Rsvd")) + beyond
}

#[test]
fn hugepages_that_are_not_there_are_replaced() {
    let pair = Pair::new();
    let options = SocketOptions { hugepages: true, ..SMALL };
    let before = huge_pages_to_be_had();
    let (umem, _ports) = pair.inner(|| open(&["in0"], 0, &options)).unwrap();
    assert_eq!(umem.hugepages(), before > 0, "{before} were there");
    assert_eq!(umem.len_bytes(), 2 << 20);
}

#[test]
#[should_panic(expected = "a frame is used with the UMEM it belongs to")]
fn a_frame_cannot_be_used_with_another_umem() {
    let mut first = Umem::new(&SMALL, 1).unwrap();
    let second = Umem::new(&SMALL, 1).unwrap();
    let mut frame = first.take().unwrap();
    second.room(&mut frame)[0] = 1;
}
