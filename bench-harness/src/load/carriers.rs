//! Which kept connection carries which request: bookkeeping alone, no socket.
//!
//! A request goes to the connection that has been free for longest, so that all are used alike; if
//! none is free it waits, the oldest first. After its number of requests a connection is to end and a
//! fresh one takes its place, opened when the next request needs it.

use std::collections::VecDeque;

/// A request that is to go out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Errand {
    /// The place of its connection.
    pub(super) slot: usize,
    /// Its number.
    pub(super) request: usize,
    /// Whether its connection has to be opened.
    pub(super) fresh: bool,
    /// Whether it is the last that this connection carries.
    pub(super) last: bool,
}

/// Places of kept connections.
#[derive(Debug)]
pub(super) struct Carriers {
    slots: Vec<Slot>,
    free: VecDeque<usize>,
    waiting: VecDeque<usize>,
    /// Requests on each connection.
    requests: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// What is out on it.
    request: Option<usize>,
    /// Requests that its connection may still carry; none if there is no connection.
    left: u32,
}

impl Carriers {
    /// So many places, each connection for so many requests.
    pub(super) fn new(number: u32, requests: u32) -> Self {
        let slots = vec![Slot::default(); number as usize];
        let free = (0..slots.len()).collect();
        Self { slots, free, waiting: VecDeque::new(), requests: requests.max(1) }
    }

    /// How many places there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether a request would go out at once.
    pub(super) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// What is out on `slot`.
    pub(super) fn request(&self, slot: usize) -> Option<usize> {
        self.slots[slot].request
    }

    /// Whether the connection of `slot` has been told to end.
    pub(super) fn is_last(&self, slot: usize) -> bool {
        self.slots[slot].left == 0
    }

    /// Places whose connection stays open.
    pub(super) fn open(&self) -> usize {
        self.slots.iter().filter(|slot| slot.left > 0).count()
    }

    /// A request is due; it waits if it does not go out now.
    pub(super) fn offer(&mut self, request: usize) -> Option<Errand> {
        match self.free.pop_front() {
            Some(slot) => Some(self.send(slot, request)),
            None => {
                self.waiting.push_back(request);
                None
            }
        }
    }

    /// The request on `slot` has ended; what goes out there next.
    pub(super) fn done(&mut self, slot: usize) -> Option<Errand> {
        self.slots[slot].request = None;
        match self.waiting.pop_front() {
            Some(request) => Some(self.send(slot, request)),
            None => {
                self.free.push_back(slot);
                None
            }
        }
    }

    /// The connection of `slot` is over.
    pub(super) fn gone(&mut self, slot: usize) {
        self.slots[slot].left = 0;
    }

    /// The connection of `slot` is over, and its request goes out again on a fresh one.
    pub(super) fn again(&mut self, slot: usize) -> Option<Errand> {
        self.gone(slot);
        let request = self.slots[slot].request?;
        Some(self.send(slot, request))
    }

    /// The oldest that waits, if `is_overdue`; it waits no more.
    pub(super) fn give_up(&mut self, is_overdue: impl Fn(usize) -> bool) -> Option<usize> {
        self.waiting.pop_front_if(|request| is_overdue(*request))
    }

    fn send(&mut self, slot: usize, request: usize) -> Errand {
        let place = &mut self.slots[slot];
        let fresh = place.left == 0;
        let left = if fresh { self.requests } else { place.left } - 1;
        *place = Slot { request: Some(request), left };
        Errand { slot, request, fresh, last: left == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(errand: Option<Errand>) -> String {
        let Some(Errand { slot, request, fresh, last }) = errand else { return "-".to_owned() };
        let mark = |is: bool, word: &'static str| if is { word } else { "" };
        format!("{request}@{slot}{}{}", mark(fresh, " fresh"), mark(last, " last"))
    }

    #[test]
    fn the_one_that_is_free_for_longest_carries_and_the_oldest_that_waits_goes_first() {
        let mut carriers = Carriers::new(2, 3);
        assert_eq!(text(carriers.offer(0)), "0@0 fresh");
        assert_eq!(text(carriers.offer(1)), "1@1 fresh");
        assert_eq!(text(carriers.offer(2)), "-");
        assert_eq!(text(carriers.offer(3)), "-");
        assert_eq!(text(carriers.done(1)), "2@1");
        assert_eq!(text(carriers.done(0)), "3@0");
        assert_eq!(text(carriers.done(1)), "-");
        assert_eq!(text(carriers.done(0)), "-");
        assert_eq!(text(carriers.offer(4)), "4@1 last");
        assert_eq!(carriers.open(), 1);
        assert_eq!(text(carriers.done(1)), "-");
        assert_eq!(text(carriers.offer(5)), "5@0 last");
        assert_eq!(text(carriers.offer(6)), "6@1 fresh");
    }

    #[test]
    fn a_connection_that_is_gone_is_replaced_and_its_request_can_go_out_again() {
        let mut carriers = Carriers::new(1, 5);
        assert_eq!(text(carriers.offer(0)), "0@0 fresh");
        assert_eq!(text(carriers.again(0)), "0@0 fresh");
        carriers.gone(0);
        assert_eq!((carriers.open(), carriers.request(0)), (0, Some(0)));
        assert_eq!(text(carriers.done(0)), "-");
        assert_eq!(text(carriers.offer(1)), "1@0 fresh");
    }

    #[test]
    fn what_waited_too_long_waits_no_more() {
        let mut carriers = Carriers::new(1, 5);
        for request in 0..3 {
            carriers.offer(request);
        }
        assert_eq!(carriers.give_up(|request| request < 2), Some(1));
        assert_eq!(carriers.give_up(|request| request < 2), None);
        assert_eq!(text(carriers.done(0)), "2@0");
    }

    #[test]
    fn one_request_each_is_a_fresh_connection_each() {
        let mut carriers = Carriers::new(1, 1);
        assert_eq!(text(carriers.offer(0)), "0@0 fresh last");
        assert_eq!(text(carriers.done(0)), "-");
        assert_eq!(text(carriers.offer(1)), "1@0 fresh last");
    }
}
