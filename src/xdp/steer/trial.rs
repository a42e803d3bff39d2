//! Running the program on one frame without an interface (`BPF_PROG_TEST_RUN`), as its tests do.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;

use super::{SteerError, Steering};

/// What the program answered for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To the kernel.
    Pass,
    /// To the socket of the frame's interface and queue, or, of an offloaded flow, to an interface.
    Redirect,
    /// Anything else, which the program never answers; `enum xdp_action` of the kernel (0 is an abort).
    Other(u32),
}

impl Verdict {
    const fn of(action: u32) -> Self {
        match action {
            2 => Verdict::Pass,
            4 => Verdict::Redirect,
            action => Verdict::Other(action),
        }
    }
}

/// Where a trial frame is said to have come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Index of an interface of this thread's network namespace.
    pub interface: u32,
    /// A receive queue that it has.
    pub queue: u32,
}

impl Steering {
    /// Runs the program once on `frame`, which goes nowhere; the counters count it.
    ///
    /// The frame comes from queue 0 of the loopback interface unless `arrival` says otherwise.
    ///
    /// # Errors
    /// If the kernel cannot run it: for a frame shorter than an Ethernet header (14 bytes) or about as long
    /// as a page (4096 bytes), and for an `arrival` that does not exist.
    pub fn try_frame(&mut self, frame: &[u8], arrival: Option<Arrival>) -> Result<Verdict, SteerError> {
        let (interface, queue) = arrival.map_or((0, 0), |arrival| (arrival.interface, arrival.queue));
        let frame_len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context: Vec<u8> =
            [0, frame_len, 0, interface, queue, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
        let options =
            TestRunOptions { data_in: Some(frame), ctx_in: Some(&context), ..TestRunOptions::default() };
        let result = self.program()?.test_run(options).map_err(SteerError::Trial)?;
        Ok(Verdict::of(result.return_value))
    }

    /// As [`try_frame`](Self::try_frame), and the frame as the program left it.
    ///
    /// # Errors
    /// As for [`try_frame`](Self::try_frame).
    pub fn run_frame(&mut self, frame: &[u8]) -> Result<(Verdict, Vec<u8>), SteerError> {
        let mut left = vec![0; frame.len() + usize::from(super::ROOM_MAX)];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut left), ..TestRunOptions::default() };
        let result = self.program()?.test_run(options).map_err(SteerError::Trial)?;
        let (verdict, len) = (Verdict::of(result.return_value), result.data_size_out as usize);
        left.truncate(len);
        Ok((verdict, left))
    }

    /// Another hand on the program, for another thread.
    ///
    /// # Errors
    /// If the kernel refuses to be asked, which it has no reason to.
    pub fn trial(&mut self) -> Result<Trial, SteerError> {
        let info = self.program()?.info().map_err(SteerError::Trial)?;
        let program = Xdp::from_program_info(info, "steer".into(), XdpAttachType::Interface);
        Ok(Trial(program.map_err(SteerError::Trial)?))
    }

    /// How many instructions the kernel's verifier followed, over all paths, until it took the program; it gives
    /// up at a million. Nothing from kernels before 5.16, which do not tell.
    ///
    /// # Errors
    /// If the kernel refuses to be asked, which it has no reason to.
    pub fn verified_instructions(&mut self) -> Result<Option<u32>, SteerError> {
        Ok(self.program()?.info().map_err(SteerError::Trial)?.verified_instruction_count())
    }

    /// Says that the interface with index `interface` has this MAC address and the sockets of `port_index`,
    /// without attaching, for trials. The loopback interface of a namespace has index 1.
    ///
    /// # Errors
    /// If the map of interfaces cannot be written.
    pub fn assume_port(&mut self, interface: u32, port_index: u16, mac: [u8; 6]) -> Result<(), SteerError> {
        self.ports.set(interface, port_index, mac)
    }
}

/// The program with its maps as they are meanwhile, to be run again and again.
#[derive(Debug)]
pub struct Trial(Xdp);

impl Trial {
    /// Runs the program `repeats` times on `frame`, from queue 0 of the loopback interface, and returns what one
    /// run took on average. The counters count each.
    ///
    /// # Errors
    /// As for [`Steering::try_frame`].
    pub fn time(&self, frame: &[u8], repeats: u32) -> Result<Duration, SteerError> {
        let options = TestRunOptions { data_in: Some(frame), repeat: repeats, ..TestRunOptions::default() };
        Ok(self.0.test_run(options).map_err(SteerError::Trial)?.duration)
    }

    /// The loaded program, for another one that runs it.
    ///
    /// # Errors
    /// If the kernel refuses to be asked, which it has no reason to.
    pub fn fd(&self) -> Result<&ProgramFd, SteerError> {
        self.0.fd().map_err(SteerError::Trial)
    }
}

/// An AF_XDP socket without rings that is bound to nothing: enough to stand in a place of the socket map,
/// and a test of whether the kernel has AF_XDP.
///
/// # Errors
/// `EAFNOSUPPORT` from a kernel without AF_XDP, `EPERM` without CAP_NET_RAW.
pub fn bare_socket() -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes three numbers and touches no memory of ours.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, new, and known to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
