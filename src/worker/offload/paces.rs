//! Which connections give way when there are more than places: the slowest, a few at a time.
//!
//! How busy a connection is that is not carried, nobody knows. So some places are tried with others: who turns out to be
//! slow there gives way to the next, and who is busy stays, at the cost of a slower one.

/// One place in so many is tried with others at a time.
const TRIED_IN: usize = 32;

/// How many places at most are tried at a time, if there are so many.
pub(super) fn tried(places: usize) -> usize {
    (places / TRIED_IN).max(1)
}

/// Of `paces`, each with its place, the places of the slowest, `most` of them at most.
pub(super) fn slowest(mut paces: Vec<(u64, u32)>, most: usize) -> Vec<u32> {
    if paces.len() > most {
        paces.select_nth_unstable(most);
        paces.truncate(most);
    }
    paces.into_iter().map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_give_way_and_no_more_than_are_tried() {
        let mut random = fastrand::Rng::with_seed(7);
        for count in 0..40_u32 {
            let paces: Vec<_> = (0..count).map(|place| (random.u64(..9), place)).collect();
            for most in 0..=usize::try_from(count).unwrap() + 1 {
                let places = slowest(paces.clone(), most);
                let mut sorted = paces.clone();
                sorted.sort_unstable();
                let mut expected: Vec<_> = sorted.iter().take(most).map(|(_, place)| *place).collect();
                let mut given = places;
                expected.sort_unstable();
                given.sort_unstable();
                assert_eq!(given, expected, "{most} of {paces:?}");
            }
        }
    }

    #[test]
    fn some_places_are_tried_even_if_there_are_few() {
        assert_eq!([1, 32, 65, 65_536].map(tried), [1, 1, 2, 2048]);
    }
}
