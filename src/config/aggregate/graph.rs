//! Circles: parts that wait for each other, or for themselves, would never be asked.

use crate::config::decode::Value;

/// The ways round, each as the indices on it from the first to the same again, with the place where its first part names
/// the second. No part is on two of them: after the one is broken up, what is left of others shows.
pub(super) fn circles<'e, 'd>(edges: &'e [Vec<(usize, Value<'d>)>]) -> Vec<(Vec<usize>, &'e Value<'d>)> {
    let mut told = vec![false; edges.len()];
    let mut circles = Vec::new();
    for start in 0..edges.len() {
        if told.get(start) == Some(&true) {
            continue;
        }
        let Some(circle) = shortest(start, edges, &told) else { continue };
        let second = circle.get(1).copied();
        let place = edges.get(start).and_then(|edges| edges.iter().find(|(to, _)| Some(*to) == second));
        for part in &circle {
            told.get_mut(*part).into_iter().for_each(|told| *told = true);
        }
        circles.extend(place.map(|(_, value)| (circle, value)));
    }
    circles
}

/// The shortest way from a part to itself, around those that are told already.
fn shortest(start: usize, edges: &[Vec<(usize, Value<'_>)>], told: &[bool]) -> Option<Vec<usize>> {
    let mut came_from: Vec<Option<usize>> = vec![None; edges.len()];
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(part) = queue.pop_front() {
        for (next, _) in edges.get(part)? {
            if *next == start {
                let mut way = vec![start];
                let mut at = part;
                while at != start {
                    way.push(at);
                    at = came_from.get(at).copied().flatten()?;
                }
                way.push(start);
                way.reverse();
                return Some(way);
            }
            if told.get(*next) == Some(&false)
                && let Some(from @ None) = came_from.get_mut(*next)
            {
                *from = Some(part);
                queue.push_back(*next);
            }
        }
    }
    None
}
