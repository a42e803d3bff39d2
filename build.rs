//! Compiles the steering program with clang; the loader embeds the object.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const SOURCE: &str = "src/xdp/steer.bpf.c";
const HEADER: &str = "src/xdp/bpf.h";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed={HEADER}");
    println!("cargo::rerun-if-env-changed=CLANG");

    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let object = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("steer.bpf.o");
    let mut compile = Command::new(&clang);
    // -g writes the type information that the maps are defined by; the prefix map keeps the builder's
    // paths out of the object. v3 instructions: kernel 5.1 and newer.
    compile.args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf", "-mcpu=v3"]);
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    compile.arg(format!("-ffile-prefix-map={here}=."));
    // For the target bpf clang does not look where Debian keeps <asm/types.h>.
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let headers = format!("/usr/include/{arch}-linux-gnu");
    if Path::new(&headers).is_dir() {
        compile.arg(format!("-I{headers}"));
    }
    compile.args(["-c", SOURCE, "-o"]).arg(&object);

    match compile.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => fail(&format!(
            "{clang} could not compile {SOURCE} (kernel headers missing? apt-get install linux-libc-dev):\n{}",
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(error) => fail(&format!(
            "cannot run `{clang}`, which compiles {SOURCE}: {error}. \
             Install it (apt-get install clang) or name another one in $CLANG"
        )),
    }
}

/// Ends the build with `message` and without a backtrace.
fn fail(message: &str) -> ! {
    for line in message.lines() {
        println!("cargo::error={line}");
    }
    exit(1);
}
