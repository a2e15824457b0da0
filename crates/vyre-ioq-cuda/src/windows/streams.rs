//! Sequences of windows for which kernels ask one after the other, and what to map ahead of them.

use std::ops::Range;

/// The sequences that are followed at once. A new one takes the place of the one that was continued longest ago.
const STREAMS: usize = 8;

/// A sequence of windows.
#[derive(Clone, Copy, Debug)]
struct Stream {
    /// The window after the last one that was asked for.
    position: u32,
    /// The window after the last one that was mapped for it.
    frontier: u32,
    /// The number of windows to map beyond the position.
    ahead: u32,
}

/// The sequences, the one that was continued last first.
///
/// Nothing is mapped ahead of the first request of a sequence. Each request that continues it doubles what is, up
/// to a limit.
#[derive(Debug)]
pub(super) struct Streams {
    streams: Vec<Stream>,
    most: u32,
}

impl Streams {
    /// Follows sequences, and maps at most `most` windows ahead of each.
    pub(super) fn new(most: u32) -> Self {
        Self {
            streams: Vec::with_capacity(STREAMS),
            most,
        }
    }

    /// Notes that kernels asked for these windows, which are mapped now.
    pub(super) fn asked(&mut self, windows: &Range<u32>) {
        if self.most == 0 {
            return;
        }
        let continues =
            |stream: &Stream| windows.start <= stream.frontier && stream.position < windows.end;
        // Warps of a kernel do not ask in order.
        let is_late = |stream: &Stream| {
            windows.end <= stream.position
                && stream.position <= windows.end.saturating_add(self.most)
        };
        let next = self.streams.iter().position(continues);
        let next = next.or_else(|| self.streams.iter().position(is_late));
        let Some(index) = next else {
            if self.streams.len() == STREAMS {
                self.streams.pop();
            }
            let (position, frontier) = (windows.end, windows.end);
            let ahead = 0;
            self.streams.insert(
                0,
                Stream {
                    position,
                    frontier,
                    ahead,
                },
            );
            return;
        };
        self.streams[..=index].rotate_right(1);
        let stream = &mut self.streams[0];
        if windows.end <= stream.position {
            return;
        }
        stream.position = windows.end;
        stream.frontier = stream.frontier.max(windows.end);
        let asked = windows.end - windows.start;
        stream.ahead = (2 * stream.ahead).max(2 * asked).min(self.most);
    }

    /// Returns the next windows to map ahead, at most `most` of them, all before `end`. The caller reports what
    /// became of them by [`advanced`](Self::advanced).
    pub(super) fn next(&self, most: u32, end: u32) -> Option<Range<u32>> {
        self.streams.iter().find_map(|stream| {
            let target = stream.position.saturating_add(stream.ahead).min(end);
            let run = stream.frontier..target.min(stream.frontier.saturating_add(most));
            (!run.is_empty()).then_some(run)
        })
    }

    /// Notes that the windows from `start` to `frontier` are mapped.
    pub(super) fn advanced(&mut self, start: u32, frontier: u32) {
        if let Some(stream) = self
            .streams
            .iter_mut()
            .find(|stream| stream.frontier == start)
        {
            stream.frontier = frontier;
        }
    }

    /// Forgets all sequences, so that nothing is mapped ahead of them.
    pub(super) fn clear(&mut self) {
        self.streams.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Maps ahead until there is nothing to, in runs of up to four, and returns the windows.
    fn map_ahead(streams: &mut Streams) -> Vec<u32> {
        let mut mapped = Vec::new();
        while let Some(run) = streams.next(4, 1000) {
            assert!(run.len() <= 4);
            mapped.extend(run.clone());
            streams.advanced(run.start, run.end);
        }
        mapped
    }

    #[test]
    fn what_is_mapped_ahead_doubles_up_to_the_limit() {
        let mut streams = Streams::new(16);
        streams.asked(&(0..1));
        assert_eq!(streams.next(4, 1000), None, "nothing ahead of the first");
        streams.asked(&(1..2));
        assert_eq!(map_ahead(&mut streams), [2, 3]);
        // Within what is mapped already.
        streams.asked(&(2..3));
        assert_eq!(map_ahead(&mut streams), [4, 5, 6]);
        for window in 3..100 {
            streams.asked(&(window..window + 1));
            // One that comes late changes nothing.
            streams.asked(&(window - 2..window - 1));
            let mapped = map_ahead(&mut streams);
            let last = mapped.last().copied().unwrap_or(0);
            assert!(last <= window + 16, "{window}: {mapped:?}");
        }
        assert_eq!(streams.next(4, 1000), None);
        streams.asked(&(100..101));
        assert_eq!(map_ahead(&mut streams), [116]);
    }

    #[test]
    fn it_ends_with_the_file() {
        let mut streams = Streams::new(16);
        streams.asked(&(5..6));
        streams.asked(&(6..7));
        assert_eq!(streams.next(4, 8), Some(7..8));
        streams.advanced(7, 8);
        assert_eq!(streams.next(4, 8), None);
    }

    #[test]
    fn random_windows_are_no_sequence() {
        let mut streams = Streams::new(16);
        for window in [900, 3, 500, 44, 12, 700, 650, 210, 33, 490, 820] {
            streams.asked(&(window..window + 1));
            assert_eq!(streams.next(4, 1000), None, "{window}");
        }
    }

    #[test]
    fn several_sequences_are_followed_at_once() {
        let mut streams = Streams::new(8);
        for step in 0..4 {
            for first in [0, 100, 200] {
                let window = first + step;
                streams.asked(&(window..window + 1));
                let mapped = map_ahead(&mut streams);
                assert_eq!(mapped.is_empty(), step == 0, "{window}: {mapped:?}");
            }
        }
    }

    #[test]
    fn the_sequence_continued_longest_ago_makes_room() {
        let mut streams = Streams::new(8);
        for first in 0..9 {
            streams.asked(&(first * 100..first * 100 + 1));
        }
        streams.asked(&(1..2));
        assert_eq!(streams.next(4, 1000), None, "forgotten");
        streams.asked(&(801..802));
        assert_eq!(streams.next(4, 1000), Some(802..804));
        streams.clear();
        assert_eq!(streams.next(4, 1000), None);
    }

    #[test]
    fn without_a_limit_nothing_is_mapped_ahead() {
        let mut streams = Streams::new(0);
        streams.asked(&(0..1));
        streams.asked(&(1..2));
        assert_eq!(streams.next(4, 1000), None);
    }
}
