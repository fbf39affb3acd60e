//! What a consistent hash promises, measured over many keys.
#![allow(clippy::unwrap_used)]

use super::*;

const KEYS: u64 = 40_000;

fn named(weights: &[u32]) -> Vec<(String, u32)> {
    weights.iter().enumerate().map(|(i, weight)| (format!("10.0.{}.{}:9000", i / 250, i % 250), *weight)).collect()
}

fn hash(endpoints: &[(String, u32)]) -> Hash {
    Hash::new(endpoints, None, 1)
}

/// Where each key goes, by the name of the endpoint.
fn places(endpoints: &[(String, u32)]) -> Vec<String> {
    let mut hash = hash(endpoints);
    let place = |n: u64| hash.pick(Some(hash_key(&n.to_le_bytes())), |_| 0, |_| true).unwrap();
    (0..KEYS).map(place).map(|i| endpoints[i].0.clone()).collect()
}

/// From where to where keys moved, and how many in all.
fn moved(before: &[String], after: &[String]) -> (Vec<(String, String)>, usize) {
    let pairs = before.iter().zip(after).filter(|(a, b)| a != b).map(|(a, b)| (a.clone(), b.clone()));
    let mut pairs: Vec<_> = pairs.collect();
    let all = pairs.len();
    pairs.sort();
    pairs.dedup();
    (pairs, all)
}

/// Within four standard deviations of a share of the keys.
fn is_about(count: usize, share: f64) {
    let expected = KEYS as f64 * share;
    assert!((count as f64 - expected).abs() <= 4.0 * expected.sqrt(), "{count} instead of {expected}");
}

#[test]
fn shares_follow_weights() {
    for weights in [&[1, 1, 1][..], &[1, 2, 3, 4], &[1000, 1, 10, 0], &[7; 100]] {
        let endpoints = named(weights);
        let places = places(&endpoints);
        let total: u32 = weights.iter().sum();
        for (name, weight) in &endpoints {
            is_about(places.iter().filter(|place| *place == name).count(), f64::from(*weight) / f64::from(total));
        }
    }
}

#[test]
fn an_endpoint_that_goes_or_comes_moves_its_own_keys_and_no_others() {
    for weights in [vec![1; 10], vec![1, 5, 2, 9, 3], vec![1; 200]] {
        let all = named(&weights);
        let total: u32 = weights.iter().sum();
        for gone in [0, all.len() / 2, all.len() - 1] {
            let mut fewer = all.clone();
            let (name, weight) = fewer.remove(gone);
            let (with, without) = (places(&all), places(&fewer));
            let (pairs, count) = moved(&with, &without);
            assert!(pairs.iter().all(|(from, _)| *from == name), "between others: {pairs:?}");
            is_about(count, f64::from(weight) / f64::from(total));
            let (back, _) = moved(&without, &with);
            assert!(back.iter().all(|(_, to)| *to == name), "between others: {back:?}");
            // Its keys are spread over all others, not given to one.
            assert!(pairs.len() >= fewer.len().min(50), "{} places", pairs.len());
        }
    }
}

#[test]
fn another_weight_moves_keys_in_proportion_and_only_to_or_from_that_endpoint() {
    let before = named(&[1, 1, 1, 1]);
    for weight in [2, 4, 1000] {
        let mut after = before.clone();
        after[1].1 = weight;
        let (pairs, count) = moved(&places(&before), &places(&after));
        assert!(pairs.iter().all(|(_, to)| *to == before[1].0), "{pairs:?}");
        is_about(count, f64::from(weight) / f64::from(weight + 3) - 0.25);
        let (pairs, _) = moved(&places(&after), &places(&before));
        assert!(pairs.iter().all(|(from, _)| *from == before[1].0), "{pairs:?}");
    }
    let scaled = named(&[50, 50, 50, 50]);
    assert_eq!(places(&before), places(&scaled), "weights are relative");
}

#[test]
fn the_order_of_endpoints_does_not_matter() {
    for weights in [vec![1; 7], vec![1, 2, 3, 4]] {
        let mut endpoints = named(&weights);
        let places_before = places(&endpoints);
        endpoints.reverse();
        endpoints.swap(0, 2);
        assert_eq!(places(&endpoints), places_before);
    }
}

/// These figures must never change: gateways of two versions run side by side, and restarts must move nobody.
#[test]
fn where_a_key_goes_is_the_same_for_ever() {
    // As `python3 -c 'import xxhash; print(hex(xxhash.xxh3_64(b"alice").intdigest()))'` says.
    assert_eq!(hash_key(b""), 0x2d06_8005_38d3_94c2);
    assert_eq!(hash_key(b"abc"), 0x78af_5f94_892f_3950);
    let of = |weights: &[u32]| -> String {
        let mut hash = hash(&named(weights));
        let pick = |n: u64| hash.pick(Some(hash_key(format!("user-{n}").as_bytes())), |_| 0, |_| true).unwrap();
        (0..24).map(pick).map(|i| char::from(b'a' + u8::try_from(i).unwrap())).collect()
    };
    assert_eq!([of(&[1, 1, 1]), of(&[1, 2, 5])], ["cccaababbbcbcbcbbccbcaaa", "ccccabcbcbcccbcbbccbccaa"]);
}

/// Requests that never end, one key each time from `keys`: what each endpoint has in flight then.
fn filled(weights: &[u32], bound: Bound, requests: u64, keys: u64) -> Vec<u32> {
    let mut hash = Hash::new(&named(weights), Some(bound), 1);
    let mut loads = vec![0_u32; weights.len()];
    let total: u32 = weights.iter().sum();
    for n in 0..requests {
        let picked = hash.pick(Some(hash_key(&(n % keys).to_le_bytes())), |i| loads[i], |_| true).unwrap();
        loads[picked] += 1;
        let fair = (n + 1) as f64 * f64::from(weights[picked]) / f64::from(total);
        let most = (fair * f64::from(bound.percent) / 100.0).ceil().max(f64::from(bound.spare));
        assert!(f64::from(loads[picked]) <= most, "{loads:?}: {} over {most}", loads[picked]);
    }
    loads
}

#[test]
fn no_endpoint_takes_more_than_the_bound_whatever_the_keys() {
    for weights in [vec![1; 5], vec![1, 3, 9], vec![1; 100]] {
        for percent in [101, 125, 200] {
            for keys in [1, 2, 1_000_000] {
                let loads = filled(&weights, Bound { percent, spare: 0 }, 2_000, keys);
                assert_eq!(loads.iter().sum::<u32>(), 2_000);
            }
        }
    }
}

#[test]
fn one_hot_key_fills_its_endpoint_first_and_then_the_next_for_it() {
    let loads = filled(&[1; 4], Bound { percent: 150, spare: 0 }, 1_000, 1);
    let mut sorted = loads.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [0, 250, 375, 375], "two to the bound, the rest to a third: {loads:?}");
}

#[test]
fn a_few_requests_stay_together() {
    let loads = filled(&[1; 4], Bound { percent: 125, spare: 8 }, 8, 1);
    assert!(loads.contains(&8), "{loads:?}");
    assert!(!filled(&[1; 4], Bound { percent: 125, spare: 8 }, 9, 1).contains(&9));
}

#[test]
fn what_is_overloaded_gives_up_only_what_is_too_much() {
    let endpoints = named(&[1; 10]);
    let metrics = crate::shared::UpstreamMetrics::default();
    let mut bounded = Hash::new(&endpoints, Some(Bound { percent: 125, spare: 0 }), 1).counted(metrics.clone());
    let mut free = hash(&endpoints);
    let busy = |i: usize| if i == 3 { 100 } else { 10 };
    let mut spilled = 0;
    for n in 0..KEYS {
        let key = Some(hash_key(&n.to_le_bytes()));
        let (bounded, free) = (bounded.pick(key, busy, |_| true).unwrap(), free.pick(key, busy, |_| true).unwrap());
        assert_eq!(bounded == free, free != 3, "only the busy one's keys move");
        spilled += usize::from(free == 3);
    }
    is_about(spilled, 0.1);
    assert_eq!(metrics.hash_spills.get(), spilled as u64, "each of them is counted, and no other");
}

#[test]
fn without_a_key_requests_spread() {
    let endpoints = named(&[1; 4]);
    let mut hash = hash(&endpoints);
    let mut counts = [0; 4];
    for _ in 0..4_000 {
        counts[hash.pick(None, |_| 0, |_| true).unwrap()] += 1;
    }
    assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
}

#[test]
fn whoever_is_left_takes_all_also_beyond_the_bound() {
    let mut hash = Hash::new(&named(&[1; 3]), Some(Bound { percent: 101, spare: 0 }), 1);
    let loads = [0, 500, 400];
    for n in 0..100_u64 {
        assert_eq!(hash.pick(Some(n), |i| loads[i], |i| i != 0), Some(2), "the less busy of two that are");
    }
}
