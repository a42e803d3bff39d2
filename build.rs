//! Compiles the BPF programs with clang.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, process};

fn main() {
    // Redirects everything; for the AF_XDP tests and the benches, which look at rings and not at steering.
    compile_bpf("benches/redirect_all.bpf.c", "redirect_all.o");
    compile_bpf("benches/flood.bpf.c", "flood.o");
}

/// Compiles `source` for the BPF machine into `OUT_DIR/object`.
fn compile_bpf(source: &str, object: &str) {
    println!("cargo::rerun-if-changed={source}");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join(object);
    let mut clang = Command::new("clang");
    clang.args(["-O2", "-g", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v3", "-c", source, "-o"]).arg(&out);
    // Debian keeps asm/types.h in a directory of the host's architecture.
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let include = format!("/usr/include/{arch}-linux-gnu");
    if Path::new(&include).is_dir() {
        clang.arg(format!("-I{include}"));
    }
    match clang.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("{clang:?} ended with {status}")),
        Err(error) => fail(&format!("clang could not be run ({error}); `apt-get install clang`")),
    }
}

fn fail(why: &str) -> ! {
    eprintln!("compiling a BPF program failed: {why}");
    process::exit(1)
}
