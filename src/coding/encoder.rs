//! The encoders behind one face: some input, some output, and whether there is more. No I/O.
//!
//! Their windows are 128 KiB (gzip: 32 KiB), which is what an answer that is compressed holds of its past; with tables it
//! takes at most [`MEMORY_MAX`], measured. What is fed must be flushed every 16 KiB: the dear part of the work is done then
//! (brotli would save it up for 64 KiB), and must not keep a core for more than about a millisecond.

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{BrotliEncoderOperation, BrotliEncoderStateStruct};
use flate2::{Compress, Compression, FlushCompress, Status};
use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective};

use super::Coding;

/// What one encoder takes at most, in bytes: brotli at level 5. zstd takes 1.2 MiB, gzip 0.4.
pub const MEMORY_MAX: usize = 1700 * 1024;

/// Room that a step needs: with 6 bytes or less zlib can not know that it has flushed, and flushes for ever.
pub const ROOM_MIN: usize = 64;

const GZIP_WINDOW_LOG: u8 = 15;
const WINDOW_LOG: u8 = 17;
/// zstd's tables, in entries; its own choice would be up to 6 MiB at the levels that may be chosen.
const ZSTD_TABLE_LOG: u32 = 15;
/// The smallest that there is (RFC 7932 has blocks of at least 64 KiB at these levels).
const BROTLI_BLOCK_LOG: i32 = 16;

/// An encoder within one body.
pub enum Encoder {
    /// See [`Coding::Gzip`].
    Gzip(Compress),
    /// See [`Coding::Brotli`].
    Brotli(Box<BrotliEncoderStateStruct<StandardAlloc>>),
    /// See [`Coding::Zstd`].
    Zstd(CCtx<'static>),
}

/// What is wanted of an encoder beside taking its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Nothing: it may keep what it was given.
    Go,
    /// All that it was given is to be readable from its output.
    Flush,
    /// The same, and the end.
    Finish,
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes of input that were taken.
    pub taken: usize,
    /// Bytes of output.
    pub written: usize,
    /// What was wanted is done; if not, it needs another step with the rest of the input, and room.
    pub done: bool,
}

/// The encoder failed: a defect, or no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl Encoder {
    /// A new one; `None` if there is no memory for it.
    #[must_use]
    pub fn new(coding: Coding, level: u8) -> Option<Self> {
        Some(match coding {
            Coding::Gzip => Self::Gzip(Compress::new_gzip(Compression::new(level.into()), GZIP_WINDOW_LOG)),
            Coding::Brotli => {
                let mut state = Box::new(BrotliEncoderStateStruct::new(StandardAlloc::default()));
                state.params.quality = level.into();
                state.params.lgwin = WINDOW_LOG.into();
                state.params.lgblock = BROTLI_BLOCK_LOG;
                Self::Brotli(state)
            }
            Coding::Zstd => {
                let mut context = CCtx::try_create()?;
                for parameter in [
                    CParameter::CompressionLevel(level.into()),
                    CParameter::WindowLog(WINDOW_LOG.into()),
                    CParameter::HashLog(ZSTD_TABLE_LOG),
                    CParameter::ChainLog(ZSTD_TABLE_LOG),
                ] {
                    context.set_parameter(parameter).ok()?;
                }
                Self::Zstd(context)
            }
        })
    }

    /// Takes some of `input` and writes some of the output to `out`, which must have room for [`ROOM_MIN`] bytes.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn step(&mut self, input: &[u8], out: &mut [u8], op: Op) -> Result<Step, Broken> {
        match self {
            Self::Gzip(gzip) => step_gzip(gzip, input, out, op),
            Self::Brotli(state) => step_brotli(state, input, out, op),
            Self::Zstd(context) => step_zstd(context, input, out, op),
        }
    }

    /// Makes it ready for another body; false: throw it away.
    pub fn reset(&mut self) -> bool {
        match self {
            Self::Gzip(gzip) => {
                gzip.reset();
                true
            }
            Self::Brotli(_) => false, // it has no such thing, and its tables come from the allocator's free lists
            Self::Zstd(context) => context.reset(ResetDirective::SessionOnly).is_ok(),
        }
    }
}

fn step_gzip(gzip: &mut Compress, input: &[u8], out: &mut [u8], op: Op) -> Result<Step, Broken> {
    let flush = match op {
        Op::Go => FlushCompress::None,
        Op::Flush => FlushCompress::Sync,
        Op::Finish => FlushCompress::Finish,
    };
    let (before_in, before_out) = (gzip.total_in(), gzip.total_out());
    let status = gzip.compress(input, out, flush).map_err(|_| Broken)?;
    let count = |now: u64, before: u64| usize::try_from(now.wrapping_sub(before)).map_err(|_| Broken);
    let (taken, written) = (count(gzip.total_in(), before_in)?, count(gzip.total_out(), before_out)?);
    let done = match op {
        Op::Go => taken == input.len(),
        // Room that is left says that there is no more to write.
        Op::Flush => taken == input.len() && written < out.len(),
        Op::Finish => status == Status::StreamEnd,
    };
    Ok(Step { taken, written, done })
}

fn step_brotli(
    state: &mut BrotliEncoderStateStruct<StandardAlloc>,
    input: &[u8],
    out: &mut [u8],
    op: Op,
) -> Result<Step, Broken> {
    let operation = match op {
        Op::Go => BrotliEncoderOperation::BROTLI_OPERATION_PROCESS,
        Op::Flush => BrotliEncoderOperation::BROTLI_OPERATION_FLUSH,
        Op::Finish => BrotliEncoderOperation::BROTLI_OPERATION_FINISH,
    };
    let (mut left, mut taken) = (input.len(), 0);
    let (mut room, mut written) = (out.len(), 0);
    let went_well = state.compress_stream(
        operation,
        &mut left,
        input,
        &mut taken,
        &mut room,
        out,
        &mut written,
        &mut None,
        &mut |_, _, _, _| (),
    );
    if !went_well {
        return Err(Broken);
    }
    let done = match op {
        Op::Go => left == 0,
        Op::Flush => left == 0 && !state.has_more_output(),
        Op::Finish => state.is_finished(),
    };
    Ok(Step { taken, written, done })
}

fn step_zstd(context: &mut CCtx<'static>, input: &[u8], out: &mut [u8], op: Op) -> Result<Step, Broken> {
    let directive = match op {
        Op::Go => ZSTD_EndDirective::ZSTD_e_continue,
        Op::Flush => ZSTD_EndDirective::ZSTD_e_flush,
        Op::Finish => ZSTD_EndDirective::ZSTD_e_end,
    };
    let (mut from, mut to) = (InBuffer::around(input), OutBuffer::around(out));
    let more = context.compress_stream2(&mut to, &mut from, directive).map_err(|_| Broken)?;
    let (taken, written) = (from.pos(), to.pos());
    let done = match op {
        Op::Go => taken == input.len(),
        Op::Flush | Op::Finish => taken == input.len() && more == 0,
    };
    Ok(Step { taken, written, done })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// In pieces of `size`, each flushed, through an output of `room` bytes at a time.
    fn encode(encoder: &mut Encoder, body: &[u8], size: usize, room: usize, flush: bool) -> Vec<u8> {
        let (mut out, mut encoded) = (vec![0; room], Vec::new());
        let mut pieces: Vec<(&[u8], Op)> =
            body.chunks(size).map(|piece| (piece, if flush { Op::Flush } else { Op::Go })).collect();
        pieces.push((&[], Op::Finish));
        for (mut piece, op) in pieces {
            loop {
                let step = encoder.step(piece, &mut out, op).unwrap();
                encoded.extend_from_slice(&out[..step.written]);
                piece = &piece[step.taken..];
                if step.done {
                    break;
                }
                assert!(step.taken + step.written > 0, "it goes on");
            }
            assert!(piece.is_empty());
        }
        encoded
    }

    /// By decoders of the same crates but for zstd, which has no other here; scenarios use those of other programs.
    fn decode(coding: Coding, encoded: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        match coding {
            Coding::Gzip => drop(flate2::read::GzDecoder::new(encoded).read_to_end(&mut body).unwrap()),
            Coding::Brotli => drop(brotli::Decompressor::new(encoded, 4096).read_to_end(&mut body).unwrap()),
            Coding::Zstd => {
                body = vec![0; 1 << 18];
                let n = zstd_safe::decompress(&mut body[..], encoded).unwrap();
                body.truncate(n);
            }
        }
        body
    }

    fn noise(n: usize) -> Vec<u8> {
        let mut x = 88_172_645_463_325_252_u64;
        std::iter::repeat_with(|| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .take(n)
        .collect()
    }

    #[test]
    fn what_goes_in_comes_out_again() {
        let text: Vec<u8> = (0..8_000).flat_map(|n| format!("{{\"id\":{n}}},").into_bytes()).collect();
        let noise = noise(50_000);
        for coding in Coding::ALL {
            for level in [u8::from(coding != Coding::Brotli), coding.level_default(), coding.level_max()] {
                let mut encoder = Encoder::new(coding, level).unwrap();
                for body in [&b""[..], b"a", &text[..1000], &text[..16_384], &text, &noise, &vec![0; 100_000]] {
                    for (size, room, flush) in
                        [(16_384, 16_384, true), (1, 64, true), (16_384, 100, false), (777, 65, true)]
                    {
                        let body = if size == 1 { &body[..body.len().min(2000)] } else { body };
                        let encoded = encode(&mut encoder, body, size, room, flush);
                        assert!(decode(coding, &encoded) == body, "{coding:?} {level} {size} {room} {}", body.len());
                        if !encoder.reset() {
                            encoder = Encoder::new(coding, level).unwrap();
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_was_flushed_can_be_read_at_once() {
        for coding in Coding::ALL {
            let mut encoder = Encoder::new(coding, coding.level_default()).unwrap();
            let mut out = [0; 1024];
            for word in ["one", "two", "three"] {
                let step = encoder.step(word.as_bytes(), &mut out, Op::Flush).unwrap();
                assert!(step.done && step.written >= word.len(), "{coding:?}: {step:?}");
            }
        }
    }

    #[test]
    fn a_small_window_is_announced() {
        // RFC 9659: decoders of this content coding need not take more than 8 MiB. RFC 8878 3.1.1.1.2: exponent and mantissa.
        let mut encoder = Encoder::new(Coding::Zstd, 3).unwrap();
        let mut out = vec![0; 1 << 18];
        encoder.step(&noise(100_000), &mut out, Op::Flush).unwrap();
        assert_eq!((&out[..4], out[4] & 0x20, out[5]), (&[0x28, 0xb5, 0x2f, 0xfd][..], 0, (17 - 10) << 3));
    }
}
