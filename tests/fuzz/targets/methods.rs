#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| xvs_fuzz::methods::run(input));
