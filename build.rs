//! Compiles the BPF programs with clang; the loaders embed the objects.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A directory stands for all that is in it: the programs' headers are beside them.
    println!("cargo::rerun-if-changed=src/xdp");
    println!("cargo::rerun-if-env-changed=CLANG");
    compile("src/xdp/steer.bpf.c", "steer.bpf.o", &[]);
    compile("src/xdp/steer.bpf.c", "steer_long.bpf.o", &["-DLONG_FRAMES"]);
    // For the AF_XDP tests and the benches, which look at rings and not at steering.
    compile("benches/redirect_all.bpf.c", "redirect_all.o", &[]);
    compile("benches/flood.bpf.c", "flood.o", &[]);
    compile("benches/refill.bpf.c", "refill.o", &[]);
}

/// Compiles `source` for the BPF machine into `OUT_DIR/object`.
fn compile(source: &str, object: &str, definitions: &[&str]) {
    println!("cargo::rerun-if-changed={source}");
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let object = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join(object);
    let mut compile = Command::new(&clang);
    // -g writes the type information that the maps are defined by; the prefix map keeps the builder's
    // paths out of the object. v3 instructions: kernel 5.1 and newer.
    compile.args(["-O2", "-g", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v3"]);
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    compile.arg(format!("-ffile-prefix-map={here}=."));
    // For the target bpf clang does not look where Debian keeps <asm/types.h>.
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let headers = format!("/usr/include/{arch}-linux-gnu");
    if Path::new(&headers).is_dir() {
        compile.arg(format!("-I{headers}"));
    }
    compile.args(definitions);
    compile.args(["-c", source, "-o"]).arg(&object);

    match compile.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => fail(&format!(
            "{clang} could not compile {source} (kernel headers missing? apt-get install linux-libc-dev):\n{}",
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(error) => fail(&format!(
            "cannot run `{clang}`, which compiles {source}: {error}. \
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
