//! The priorities of a *look*, which is one read of the first due tasks of an executor. Each
//! priority has a floor: the place before which it has no task (see `floors.rs`).

use std::collections::BTreeMap;

use crate::domain::limits::{PRIORITY_MAX, PRIORITY_MIN};

/// A place in the order of one priority: a due time and a `seq`.
pub(super) type Place = (i64, i64);

/// How many priorities a look reads from their floors, beginning with the highest. The others are
/// read from their beginning, as the gaps between these. This bounds the number of parts of the
/// statement.
const CELLS_MAX: usize = 16;

/// The floors that are known, by priority.
#[derive(Clone, Debug, Default)]
pub(super) struct Cells {
    floors: BTreeMap<i16, Place>,
}

/// The parts of the order that one look reads. Together they are the whole order, without the parts
/// below the floors.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// One priority, from a place on.
    pub(super) cells: Vec<(i16, Place)>,
    /// The priorities from the first to the second, from their beginning.
    pub(super) gaps: Vec<(i16, i16)>,
}

impl Cells {
    /// Cells for these priorities, of whose tasks nothing is known.
    pub(super) fn of(priorities: Vec<i16>) -> Self {
        let bottom = (i64::MIN, i64::MIN);
        Self { floors: priorities.into_iter().map(|priority| (priority, bottom)).collect() }
    }

    pub(super) fn parts(&self) -> Parts {
        let mut parts = Parts::default();
        let mut high = PRIORITY_MAX;
        for (priority, floor) in self.floors.iter().rev().take(CELLS_MAX) {
            if *priority < high {
                parts.gaps.push((priority + 1, high));
            }
            parts.cells.push((*priority, *floor));
            high = priority - 1;
        }
        if high >= PRIORITY_MIN {
            parts.gaps.push((PRIORITY_MIN, high));
        }
        parts
    }

    /// Lowers the floor of a priority to which a task has come. A priority without a floor is read
    /// from its beginning anyway.
    pub(super) fn lower(&mut self, priority: i16, place: Place) {
        if let Some(floor) = self.floors.get_mut(&priority) {
            *floor = place.min(*floor);
        }
    }

    /// Raises the floors after a look that has read all parts. The first task that was found of a
    /// priority (`firsts`) becomes its floor. But no floor is above the horizon, since transactions
    /// of other processes may still commit tasks there.
    pub(super) fn raise(&mut self, firsts: &BTreeMap<i16, Place>, horizon: Place) {
        let read: Vec<i16> = self.floors.keys().rev().take(CELLS_MAX).copied().collect();
        for priority in read.into_iter().chain(firsts.keys().copied()) {
            let first = firsts.get(&priority).map_or(horizon, |first| horizon.min(*first));
            self.floors.insert(priority, first);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{CELLS_MAX, Cells, Parts, Place};

    const BOTTOM: Place = (i64::MIN, i64::MIN);

    fn raised(cells: &mut Cells, firsts: &[(i16, Place)], horizon: i64) -> Parts {
        cells.raise(&firsts.iter().copied().collect::<BTreeMap<_, _>>(), (horizon, i64::MIN));
        cells.parts()
    }

    #[test]
    fn the_parts_are_the_whole_order() {
        let mut cells = Cells::default();
        assert_eq!(cells.parts(), Parts { cells: vec![], gaps: vec![(-100, 100)] });
        let parts = raised(&mut cells, &[(100, (7, 1)), (0, (5, 2)), (-1, (9, 3))], 8);
        let expected = vec![(100, (7, 1)), (0, (5, 2)), (-1, (8, i64::MIN))];
        assert_eq!(parts, Parts { cells: expected, gaps: vec![(1, 99), (-100, -2)] });
    }

    #[test]
    fn where_nothing_is_found_the_horizon_is_the_floor() {
        let mut cells = Cells::of(vec![0]);
        assert_eq!(cells.parts().cells, [(0, BOTTOM)]);
        assert_eq!(raised(&mut cells, &[], 8).cells, [(0, (8, i64::MIN))]);
        cells.lower(0, (3, 4));
        cells.lower(1, (3, 4));
        assert_eq!(cells.parts().cells, [(0, (3, 4))], "of 1 nothing is known");
    }

    #[test]
    fn what_is_below_the_last_cell_is_one_gap_and_keeps_its_floor() {
        let mut cells = Cells::of((0..=20).collect());
        let parts = raised(&mut cells, &[], 8);
        assert_eq!(parts.cells.len(), CELLS_MAX);
        assert_eq!(parts.gaps, [(21, 100), (-100, 4)]);
        assert_eq!(cells.floors[&4], BOTTOM, "it was not read from its floor");
        assert_eq!(cells.floors[&5], (8, i64::MIN));
    }
}
