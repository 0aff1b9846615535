#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rise_broker::fuzzing::keys::key_set(bytes));
