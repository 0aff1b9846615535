#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rise_broker::fuzzing::http::http_ceiling(bytes));
