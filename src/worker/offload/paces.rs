//! Which connections give way when there are more than places: the slowest, and only those that are slow among the others.
//!
//! How busy a connection is that is not carried, nobody knows. So a few places at a time are tried with others: who turns out
//! to be slow there gives way to the next, and who is busy stays, at the cost of a slower one. Connections that are all as
//! busy as each other stay where they are.

/// One place in so many is tried with others at a time.
const TRIED_IN: usize = 16;

/// How many places at most are tried at a time, if there are so many.
pub(super) fn tried(places: usize) -> usize {
    (places / TRIED_IN).max(1)
}

/// Of `paces`, each with a place, those places that give way: the slowest, `most` of them at most.
pub(super) fn slowest(mut paces: Vec<(u64, u32)>, most: usize) -> Vec<u32> {
    let count = u64::try_from(paces.len()).unwrap_or(u64::MAX).max(1);
    let mean = paces.iter().map(|(pace, _)| pace).sum::<u64>() / count;
    paces.retain(|(pace, _)| pace.saturating_mul(2) <= mean);
    if paces.len() > most {
        paces.select_nth_unstable(most);
        paces.truncate(most);
    }
    paces.into_iter().map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(paces: &[u64], most: usize) -> Vec<u32> {
        let mut places = slowest(paces.iter().copied().zip(0..).collect(), most);
        places.sort_unstable();
        places
    }

    #[test]
    fn the_slowest_give_way_and_only_if_they_are_slow() {
        assert_eq!(sorted(&[100, 3, 90, 1, 2, 80], 2), [3, 4]);
        assert_eq!(sorted(&[100, 3, 90, 1, 2, 80], 9), [1, 3, 4]);
        assert_eq!(sorted(&[100, 90, 110, 60], 4), [0; 0], "as busy as each other");
        assert_eq!(sorted(&[7, 7], 4), [0; 0]);
        assert_eq!(sorted(&[0, 0, 0], 2).len(), 2, "idle all of them");
        assert_eq!(sorted(&[], 2), [0; 0]);
    }

    #[test]
    fn some_places_are_tried_even_if_there_are_few() {
        assert_eq!([1, 16, 33, 65_536].map(tried), [1, 1, 2, 4096]);
    }
}
