//! The gateway's codec against monoio-http's, on the same bytes in the same pieces: a table of heads and framings, and
//! seeded mutations of valid messages. Where the two disagree a row of `rules.rs` says which section decides and who is
//! right; a disagreement that none explains is an error of one of them that nobody knows of yet.

mod codecs;
mod rules;
mod table;

use crate::mutation::mutate;
use crate::support::wire::show;
use crate::support::{PATIENCE, Seeded};
use codecs::{End, Ours, Outcome, Way, passed_on_before_the_end, theirs};
use rules::{Dispute, ROWS, Right, Who};
use std::collections::BTreeMap;
use std::sync::mpsc;
use table::{NEXT, Verdict};

/// Where the outcomes part, and which row decides; `None` where they do not.
fn compare(way: Way, bytes: &[u8], ours: &Outcome, theirs: &Outcome) -> Option<Result<Right, String>> {
    let refused = |end: &End| matches!(end, End::Refused(_));
    let mut at = 0;
    loop {
        let (a, b) = (ours.messages.get(at).ok_or(&ours.end), theirs.messages.get(at).ok_or(&theirs.end));
        let begins = a.map_or(ours.end_at, |message| message.at);
        match (a, b) {
            (Ok(a), Ok(b)) if a == b => at += 1,
            (Err(a), Err(b)) if a == b || (refused(a) && refused(b)) => return None,
            (a, b) => {
                let dispute = Dispute { way, bytes: &bytes[begins..], ours: a, theirs: b };
                let unexplained = || format!("{}\n    ours   {a:?}\n    theirs {b:?}", show(dispute.bytes));
                return Some(rules::decide(&dispute).ok_or_else(unexplained));
            }
        }
    }
}

/// Cuts at random places, also none and one behind each byte.
fn cuts(seeded: &mut Seeded, len: usize) -> Vec<usize> {
    match seeded.below(8) {
        0 => Vec::new(),
        1 if len < 2048 => (1..len).collect(),
        _ => {
            let mut cuts: Vec<usize> = (0..=seeded.below(6)).map(|_| seeded.below(len.max(1))).collect();
            cuts.sort_unstable();
            cuts
        }
    }
}

fn verdict(outcome: &Outcome) -> Verdict {
    let whole = outcome.messages.len();
    match &outcome.end {
        End::All => Verdict::Whole(whole),
        End::More => Verdict::More(whole),
        // A fault in chunks has no text of its own.
        End::Refused(why) => {
            Verdict::Refused(whole, why.get(..3).and_then(|status| status.parse().ok()).unwrap_or(400))
        }
        End::Panicked(what) => panic!("ours has panicked: {what}"),
    }
}

/// Who can cut bytes does not decide what they mean. What becomes no message may be refused later, while its end has not
/// come: a head that drips in is parsed when it has doubled.
fn means_the_same(bytes: &[u8], at_once: &Outcome, cut: &Outcome) -> bool {
    let rest = &bytes[cut.end_at..];
    let has_end = rest.windows(2).any(|w| w == b"\n\n") || rest.windows(3).any(|w| w == b"\n\r\n");
    let waits = matches!((&at_once.end, &cut.end), (End::Refused(_), End::More)) && !has_end;
    at_once.messages == cut.messages && (waits || verdict(at_once) == verdict(cut))
}

#[test]
fn the_table_says_what_ours_does_and_who_is_right() {
    let ours = Ours::new();
    let cases = table::cases();
    assert!(cases.len() >= 140, "{}", cases.len());
    let mut wrong = Vec::new();
    let mut used = BTreeMap::<Right, usize>::new();
    let mut seeded = Seeded(0x5EED);
    for case in &cases {
        let mine = ours.read(case.way, &case.bytes, &[]);
        if verdict(&mine) != case.verdict {
            wrong.push(format!("{}: {:?}, not {:?}: {:?}", case.name, verdict(&mine), case.verdict, mine.end));
        }
        // However the bytes come: who could cut them would decide what they mean.
        for _ in 0..4 {
            let cuts = cuts(&mut seeded, case.bytes.len());
            let again = ours.read(case.way, &case.bytes, &cuts);
            if !means_the_same(&case.bytes, &mine, &again) {
                wrong.push(format!("{}: cut at {cuts:?}: {:?}, not {:?}", case.name, again.end, mine.end));
            }
        }
        match compare(case.way, &case.bytes, &mine, &theirs(case.way, &case.bytes, &[])) {
            Some(Err(what)) => wrong.push(format!("{}: unexplained: {what}", case.name)),
            found => {
                let found = found.and_then(Result::ok);
                if let Some(right) = found {
                    *used.entry(right).or_default() += 1;
                }
                if found != case.right {
                    wrong.push(format!("{}: {found:?} decides, not {:?}", case.name, case.right));
                }
            }
        }
    }
    for row in &ROWS {
        let who = if row.who == Who::Ours { "ours" } else { "both" };
        println!(
            "{:14} {who} {:4} {:36} {}",
            format!("{:?}", row.right),
            used.get(&row.right).unwrap_or(&0),
            row.section,
            row.says
        );
        if !used.contains_key(&row.right) {
            wrong.push(format!("{:?}: no case shows it", row.right));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

const SEEDS: [(Way, &str); 14] = [
    (Way::Requests, "GET /a?b=c HTTP/1.1\r\nHost: gw.test\r\nAccept: */*\r\n\r\n"),
    (Way::Requests, "GET http://gw.test/a HTTP/1.1\r\nHost: gw.test\r\nUser-Agent: x\r\n\r\n"),
    (Way::Requests, "POST /a HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 11\r\n\r\nhello world"),
    (
        Way::Requests,
        "POST /a HTTP/1.1\r\nHost: gw.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    ),
    (
        Way::Requests,
        "PUT /a HTTP/1.1\r\nHost: gw.test\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\n",
    ),
    (
        Way::Requests,
        "PUT /a HTTP/1.1\r\nHost: gw.test\r\nTransfer-Encoding: chunked\r\n\r\n5;x=\"y\"\r\nhello\r\n0\r\n\r\n",
    ),
    (Way::Requests, "GET /a HTTP/1.0\r\nHost: gw.test\r\nConnection: keep-alive\r\n\r\n"),
    (Way::Requests, "DELETE /%41/../b//c HTTP/1.1\r\nHost: gw.test:80\r\nConnection: close, x-a\r\nX-A: 1\r\n\r\n"),
    (Way::Requests, "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nVia: 1.1 x\r\n\r\n"),
    (Way::Requests, "POST /a HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    (Way::Answers, "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello"),
    (Way::Answers, "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    (Way::Answers, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nA: b\r\n\r\n"),
    (Way::Answers, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi"),
];
const MUTATIONS: usize = 20_000;

#[test]
fn no_mutation_of_a_valid_message_is_understood_differently_without_a_reason() {
    let seed = std::env::var("RINGWAY_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0xD1FF);
    println!("RINGWAY_TEST_SEED={seed}");
    let ours = Ours::new();
    let mut seeded = Seeded(seed);
    // Theirs runs on a thread of its own: one that hangs is told from one that is slow.
    let (to_them, inbox) = mpsc::channel::<(Way, Vec<u8>, Vec<usize>)>();
    let (answers, from_them) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        for (way, bytes, cuts) in inbox {
            let _ = answers.send(theirs(way, &bytes, &cuts));
        }
    });
    let (mut agreed, mut decided, mut unexplained) = (0, BTreeMap::<Right, usize>::new(), Vec::new());
    for _ in 0..MUTATIONS {
        let (way, text) = SEEDS[seeded.below(SEEDS.len())];
        let mut bytes = mutate(&mut seeded, text.as_bytes());
        if way == Way::Requests {
            bytes.extend_from_slice(NEXT.as_bytes());
        }
        let cuts = cuts(&mut seeded, bytes.len());
        to_them.send((way, bytes.clone(), cuts.clone())).unwrap();
        let mine = ours.read(way, &bytes, &cuts);
        let at_once = ours.read(way, &bytes, &[]);
        assert!(
            means_the_same(&bytes, &at_once, &mine),
            "{} means {:?} in one piece, and {:?} when it is cut at {cuts:?}",
            show(&bytes),
            at_once,
            mine
        );
        let them = from_them.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("theirs hangs on {}", show(&bytes)));
        match compare(way, &bytes, &mine, &them) {
            None => agreed += 1,
            Some(Ok(right)) => *decided.entry(right).or_default() += 1,
            Some(Err(what)) => unexplained.push(what),
        }
    }
    drop(to_them);
    thread.join().unwrap();
    println!("{agreed} agreed, decided by a row: {decided:?}");
    assert!(agreed > MUTATIONS / 4 && decided.len() > 8, "{agreed} of {MUTATIONS} agreed, {decided:?}");
    let shown = unexplained.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
    assert!(unexplained.is_empty(), "seed {seed}: {} unexplained:\n{shown}", unexplained.len());
}

#[test]
fn a_body_passes_through_ours_and_is_held_whole_by_theirs() {
    const BYTES: usize = 1024 * 1024;
    assert_eq!(passed_on_before_the_end(BYTES), (BYTES - 1, 0));
}
