//! Backlog: the lines in which the requests of one queue wait.
//!
//! A slot is in one line at most. The lines are doubly linked by slot index, so that every step
//! takes constant time and none allocates.

/// Slot index that stands for no slot.
const NONE: u32 = u32::MAX;

/// Event that a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Room in the transport.
    Ready,
    /// Another request of the queue on an unbounded file: as many as are allowed are ahead of it.
    Parked,
    /// Writes to its file: a SYNC.
    Writes,
    /// Room in the transport to ask for the cancellation of its operation.
    Unasked,
    /// The end of its operation, which the transport was asked to cancel.
    Asked,
}

const LINES: usize = 5;

#[derive(Clone, Copy, Debug)]
struct Node {
    before: u32,
    after: u32,
    line: Option<Line>,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u32,
    last: u32,
}

const EMPTY: Ends = Ends {
    first: NONE,
    last: NONE,
};

/// The lines of one queue.
#[derive(Debug)]
pub(crate) struct Lines {
    nodes: Box<[Node]>,
    ends: [Ends; LINES],
}

impl Lines {
    pub(crate) fn new(slots: u32) -> Self {
        let alone = Node {
            before: NONE,
            after: NONE,
            line: None,
        };
        Self {
            nodes: vec![alone; slots as usize].into(),
            ends: [EMPTY; LINES],
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self, line: Line) -> bool {
        self.ends[line as usize].first == NONE
    }

    pub(crate) fn first(&self, line: Line) -> Option<u32> {
        let first = self.ends[line as usize].first;
        (first != NONE).then_some(first)
    }

    /// Returns the slot behind one in its line.
    pub(crate) fn after(&self, slot: u32) -> Option<u32> {
        let after = self.nodes[slot as usize].after;
        (after != NONE).then_some(after)
    }

    /// Returns the line that a slot is in.
    #[inline]
    pub(crate) fn line_of(&self, slot: u32) -> Option<Line> {
        self.nodes[slot as usize].line
    }

    /// Puts a slot, which is in no line, at the end of a line.
    pub(crate) fn push(&mut self, line: Line, slot: u32) {
        debug_assert_eq!(self.line_of(slot), None, "in two lines");
        let last = std::mem::replace(&mut self.ends[line as usize].last, slot);
        self.nodes[slot as usize] = Node {
            before: last,
            after: NONE,
            line: Some(line),
        };
        match self.nodes.get_mut(last as usize) {
            Some(node) => node.after = slot,
            None => self.ends[line as usize].first = slot,
        }
    }

    /// Puts a slot, which is in no line, at the front of a line.
    pub(crate) fn push_front(&mut self, line: Line, slot: u32) {
        debug_assert_eq!(self.line_of(slot), None, "in two lines");
        let first = std::mem::replace(&mut self.ends[line as usize].first, slot);
        self.nodes[slot as usize] = Node {
            before: NONE,
            after: first,
            line: Some(line),
        };
        match self.nodes.get_mut(first as usize) {
            Some(node) => node.before = slot,
            None => self.ends[line as usize].last = slot,
        }
    }

    /// Takes the first slot out of a line.
    pub(crate) fn pop(&mut self, line: Line) -> Option<u32> {
        let first = self.first(line)?;
        self.remove(first);
        Some(first)
    }

    /// Takes a slot out of its line, and returns that line.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<Line> {
        let Node {
            before,
            after,
            line,
        } = self.nodes[slot as usize];
        let line = line?;
        self.nodes[slot as usize].line = None;
        match self.nodes.get_mut(before as usize) {
            Some(node) => node.after = after,
            None => self.ends[line as usize].first = after,
        }
        match self.nodes.get_mut(after as usize) {
            Some(node) => node.before = before,
            None => self.ends[line as usize].last = before,
        }
        Some(line)
    }

    /// Empties all lines.
    pub(crate) fn clear(&mut self) {
        for node in &mut self.nodes {
            node.line = None;
        }
        self.ends = [EMPTY; LINES];
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const SLOTS: u32 = 8;

    /// Returns the slots of a line, walked both ways.
    fn walk(lines: &Lines, line: Line) -> Vec<u32> {
        let ends = lines.ends[line as usize];
        let go = |from: u32, step: fn(&Node) -> u32| {
            std::iter::successors((from != NONE).then_some(from), |&slot| {
                Some(step(&lines.nodes[slot as usize])).filter(|&slot| slot != NONE)
            })
            .collect::<Vec<_>>()
        };
        let there = go(ends.first, |node| node.after);
        let mut back = go(ends.last, |node| node.before);
        back.reverse();
        assert_eq!(there, back);
        there
    }

    proptest! {
        #[test]
        fn lines_are_what_queues_with_removal_would_be(
            steps in prop::collection::vec((0..4_u8, prop::bool::ANY, 0..SLOTS), 0..200),
        ) {
            let mut lines = Lines::new(SLOTS);
            let mut model = [VecDeque::new(), VecDeque::new()];
            for (step, second, slot) in steps {
                let which = usize::from(second);
                let line = if second { Line::Parked } else { Line::Ready };
                let held = model.iter().any(|line| line.contains(&slot));
                match step {
                    0 if !held => {
                        lines.push(line, slot);
                        model[which].push_back(slot);
                    }
                    1 if !held => {
                        lines.push_front(line, slot);
                        model[which].push_front(slot);
                    }
                    2 => prop_assert_eq!(lines.pop(line), model[which].pop_front()),
                    _ => {
                        prop_assert_eq!(lines.remove(slot).is_some(), held);
                        model.iter_mut().for_each(|line| line.retain(|&other| other != slot));
                    }
                }
                prop_assert_eq!(walk(&lines, Line::Ready), Vec::from(model[0].clone()));
                prop_assert_eq!(walk(&lines, Line::Parked), Vec::from(model[1].clone()));
            }
        }
    }
}
