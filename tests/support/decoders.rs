//! Decoders of content codings, all of them programs that nobody here wrote.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Strict: one member, its checksum right, nothing behind it.
const GUNZIP: &str = "import sys, zlib\nd = zlib.decompressobj(31)\nb = d.decompress(sys.stdin.buffer.read()) + d.flush()\n\
                      assert d.eof and not d.unused_data\nsys.stdout.buffer.write(b)";

fn run(coding: &str, encoded: &[u8]) -> Output {
    let (program, args): (&str, &[&str]) = match coding {
        "gzip" => ("/usr/bin/python3", &["-S", "-E", "-c", GUNZIP]),
        "br" => ("brotli", &["-d", "-c"]),
        "zstd" => ("zstd", &["-d", "-c", "-q"]),
        other => panic!("no decoder for {other}"),
    };
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{program}: {e}"));
    let (mut input, bytes) = (child.stdin.take().unwrap(), encoded.to_vec());
    let writer = std::thread::spawn(move || drop(input.write_all(&bytes)));
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap();
    out
}

/// The bytes before; panics if these are not the whole of them.
pub fn decode(coding: &str, encoded: &[u8]) -> Vec<u8> {
    let out = run(coding, encoded);
    assert!(out.status.success(), "{coding}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// Whether a decoder takes these for the whole of something.
pub fn is_whole(coding: &str, encoded: &[u8]) -> bool {
    run(coding, encoded).status.success()
}
