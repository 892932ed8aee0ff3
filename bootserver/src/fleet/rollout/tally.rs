//! How many targets stand where, kept by stage.

use super::target::TargetState;

/// How many targets are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    counts: [u64; TargetState::ALL.len()],
}

impl Tally {
    /// So many more in a state.
    pub fn add(&mut self, state: TargetState, targets: u64) {
        self.counts[state as usize] += targets;
    }

    /// How many are in a state.
    pub fn of(&self, state: TargetState) -> u64 {
        self.counts[state as usize]
    }

    /// How many there are.
    pub fn all(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many have not ended.
    pub fn open(&self) -> u64 {
        let open = TargetState::ALL.into_iter().filter(|state| state.is_open());
        open.map(|state| self.of(state)).sum()
    }

    /// How many are ordered and have not ended.
    pub fn under_way(&self) -> u64 {
        self.of(TargetState::Ordered) + self.of(TargetState::Running)
    }
}

/// The tallies of all stages, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    stages: Vec<Tally>,
}

impl Counts {
    /// So many more in a state of a stage.
    pub fn add(&mut self, stage: usize, state: TargetState, targets: u64) {
        if self.stages.len() <= stage {
            self.stages.resize(stage + 1, Tally::default());
        }
        self.stages[stage].add(state, targets);
    }

    /// So many targets of a stage go from one state to another.
    pub fn shift(&mut self, stage: usize, from: TargetState, to: TargetState, targets: u64) {
        self.add(stage, to, targets);
        let before = &mut self.stages[stage].counts[from as usize];
        *before = before.saturating_sub(targets);
    }

    /// Those of one stage.
    pub fn stage(&self, stage: usize) -> Tally {
        self.stages.get(stage).copied().unwrap_or_default()
    }

    /// Those of all stages.
    pub fn total(&self) -> Tally {
        sum(&self.stages)
    }

    /// Those of the stages up to this one, and those of the later ones.
    pub fn split_after(&self, stage: usize) -> (Tally, Tally) {
        let (released, later) = self.stages.split_at((stage + 1).min(self.stages.len()));
        (sum(released), sum(later))
    }
}

fn sum(tallies: &[Tally]) -> Tally {
    let mut total = Tally::default();
    for (state, tally) in TargetState::ALL
        .into_iter()
        .flat_map(|state| tallies.iter().map(move |tally| (state, tally)))
    {
        total.add(state, tally.of(state));
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_kept_by_stage_and_add_up() {
        let mut counts = Counts::default();
        counts.add(0, TargetState::Succeeded, 1);
        counts.add(2, TargetState::Waiting, 5);
        counts.add(2, TargetState::Running, 2);
        assert_eq!((counts.total().all(), counts.total().open()), (8, 7));
        let (released, later) = counts.split_after(1);
        assert_eq!((released.all(), later.all()), (1, 7));
        assert_eq!(counts.split_after(9).0.all(), 8);
        assert_eq!((counts.stage(1).all(), counts.stage(7).all()), (0, 0));
    }
}
