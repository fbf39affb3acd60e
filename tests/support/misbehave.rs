//! One script per way in which an upstream can misbehave (and the few well-behaved ones they are compared with).

use super::Gate;
use super::upstream::Conn;
use std::time::Duration;

/// Reads each request whole and gives the same answer to all.
pub fn answers(answer: impl Into<Vec<u8>>) -> impl Fn(&mut Conn) + Send + Sync + 'static {
    let answer = answer.into();
    move |conn| {
        while conn.request().is_some() {
            if !conn.write(&answer) {
                return;
            }
        }
    }
}

/// Reads one request, gives the answer, closes.
pub fn answers_and_closes(answer: impl Into<Vec<u8>>) -> impl Fn(&mut Conn) + Send + Sync + 'static {
    let answer = answer.into();
    move |conn| {
        if conn.request().is_some() {
            conn.write(&answer);
        }
    }
}

/// The answer in pieces, each in a segment of its own.
pub fn answers_in_pieces(pieces: Vec<Vec<u8>>, pause: Duration) -> impl Fn(&mut Conn) + Send + Sync + 'static {
    move |conn| {
        while conn.request().is_some() {
            for piece in &pieces {
                if !conn.write(piece) {
                    return;
                }
                std::thread::sleep(pause);
            }
        }
    }
}

/// One byte per `pause`.
pub fn drips(answer: impl Into<Vec<u8>>, pause: Duration) -> impl Fn(&mut Conn) + Send + Sync + 'static {
    answers_in_pieces(answer.into().into_iter().map(|b| vec![b]).collect(), pause)
}

/// Gives the answer, then resets.
pub fn answers_and_resets(answer: impl Into<Vec<u8>>) -> impl Fn(&mut Conn) + Send + Sync + 'static {
    let answer = answer.into();
    move |conn| {
        if conn.request().is_some() {
            conn.write(&answer);
            conn.reset_on_close();
        }
    }
}

/// Gives the start of an answer, waits until the scenario has seen it at the client, then closes.
pub fn starts_and_closes(start: impl Into<Vec<u8>>, gate: Gate) -> impl Fn(&mut Conn) + Send + Sync + 'static {
    let start = start.into();
    move |conn| {
        if conn.request().is_some() {
            conn.write(&start);
            gate.wait();
        }
    }
}

/// The same, with a reset.
pub fn starts_and_resets(start: impl Into<Vec<u8>>, gate: Gate) -> impl Fn(&mut Conn) + Send + Sync + 'static {
    let start = start.into();
    move |conn| {
        if conn.request().is_some() {
            conn.write(&start);
            gate.wait();
            conn.reset_on_close();
        }
    }
}

/// The same, with a FIN that TLS does not announce.
pub fn starts_and_is_cut(start: impl Into<Vec<u8>>, gate: Gate) -> impl Fn(&mut Conn) + Send + Sync + 'static {
    let start = start.into();
    move |conn| {
        if conn.request().is_some() {
            conn.write(&start);
            gate.wait();
            conn.cut_on_close();
        }
    }
}

/// Resets once a request is there.
pub fn resets(conn: &mut Conn) {
    conn.request();
    conn.reset_on_close();
}

/// Closes once a request is there, without an answer.
pub fn closes_before_the_answer(conn: &mut Conn) {
    conn.request();
}

/// Reads the request and never answers.
pub fn never_answers(conn: &mut Conn) {
    conn.request();
    conn.until_ended();
}

/// Gives the start of an answer and then nothing more.
pub fn stalls_after(start: impl Into<Vec<u8>>) -> impl Fn(&mut Conn) + Send + Sync + 'static {
    let start = start.into();
    move |conn| {
        if conn.request().is_some() {
            conn.write(&start);
            conn.until_ended();
        }
    }
}

/// Answers when it has the head of the request; reads on afterwards.
pub fn answers_before_the_body(answer: impl Into<Vec<u8>>) -> impl Fn(&mut Conn) + Send + Sync + 'static {
    let answer = answer.into();
    move |conn| {
        if conn.head().is_some() {
            conn.write(&answer);
            conn.until_ended();
        }
    }
}

/// The first connection gives the answer and then, when the gate is open, bytes that nobody asked for; later ones are
/// well-behaved and give `later`.
pub fn poisons_the_first(
    answer: impl Into<Vec<u8>>,
    garbage: impl Into<Vec<u8>>,
    later: impl Into<Vec<u8>>,
    gate: Gate,
    poisoned: Gate,
) -> impl Fn(&mut Conn) + Send + Sync + 'static {
    let (answer, garbage, later) = (answer.into(), garbage.into(), later.into());
    move |conn| {
        if conn.index == 0 {
            conn.request();
            conn.write(&answer);
            gate.wait();
            conn.write(&garbage);
            poisoned.open();
            conn.until_ended();
            return;
        }
        while conn.request().is_some() {
            if !conn.write(&later) {
                return;
            }
        }
    }
}

/// The first connection answers `n` requests, then breaks on the next by closing without a byte; `later` connections
/// are well-behaved.
pub fn breaks_after(
    n: usize,
    answer: impl Into<Vec<u8>>,
    later: impl Into<Vec<u8>>,
) -> impl Fn(&mut Conn) + Send + Sync + 'static {
    let (answer, later) = (answer.into(), later.into());
    move |conn| {
        if conn.index > 0 {
            return answers(later.clone())(conn);
        }
        for _ in 0..n {
            if conn.request().is_none() || !conn.write(&answer) {
                return;
            }
        }
        conn.request();
    }
}
