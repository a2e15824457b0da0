use std::cell::RefCell;
use std::pin::Pin;
use std::time::Duration;

use vyre_io::{Errno, HostQueue, Queue, QueueLayout};

use super::*;

const LANES: u32 = 3;

/// Claims requests until `count` are in flight.
fn claim(host: &mut HostQueue, count: u32) -> Vec<u32> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut slots = Vec::new();
    while slots.len() < count as usize {
        assert!(
            Instant::now() < deadline,
            "only {} requests in flight",
            slots.len()
        );
        host.claim_published(0..8, |claim| slots.push(claim.slot));
    }
    slots
}

/// Runs as many futures as there are lanes, each with two requests, against a host.
fn against(host: impl FnOnce(HostQueue) + Send) -> Result<(), Failure> {
    let (queue, device) = Queue::anonymous(QueueLayout::with_slots(8)).expect("memory");
    thread::scope(|scope| {
        scope.spawn(|| host(queue));
        let driver = Driver::new(&device);
        driver.run(join((0..LANES).map(|_| async {
            driver.ask(Request::fence()).await?.bytes().expect("moved");
            driver
                .ask(Request::fence())
                .await?
                .bytes()
                .map_err(|errno| Failure::request("read", std::path::Path::new("file"), errno))?;
            Ok(())
        })))
    })
}

#[test]
fn one_thread_keeps_every_lane_in_flight() {
    let done = against(|mut host| {
        for _ in 0..2 {
            // The outcomes come in another order than the requests.
            for slot in claim(&mut host, LANES).into_iter().rev() {
                host.complete(slot, Ok(0)).expect("claimed");
            }
        }
    });
    assert!(done.is_ok(), "{done:?}");
}

#[test]
fn the_first_failure_is_reported_once_every_lane_has_ended() {
    let failed = against(|mut host| {
        for slot in claim(&mut host, LANES) {
            host.complete(slot, Ok(0)).expect("claimed");
        }
        let mut slots = claim(&mut host, LANES).into_iter();
        let mut complete = |result| {
            let slot = slots.next().expect("as many as there are lanes");
            host.complete(slot, result).expect("claimed");
            thread::sleep(Duration::from_millis(20));
        };
        complete(Err(Errno::EIO));
        complete(Err(Errno::ENOSPC));
        complete(Ok(0));
    });
    let failure = failed.expect_err("two failed").to_string();
    assert!(failure.contains("Input/output error"), "{failure}");
}

#[test]
fn a_host_that_is_gone_ends_the_wait() {
    let failed = against(|mut host| {
        let first = claim(&mut host, LANES)[0];
        host.complete(first, Ok(0)).expect("claimed");
        claim(&mut host, 1);
        host.set_state(LoopState::Failed);
    });
    assert!(
        matches!(failed, Err(Failure::Wait(WaitError::HostGone(_)))),
        "{failed:?}"
    );
}

#[test]
fn a_wait_for_the_beginning_ends_with_the_first_outcome_or_the_first_end() {
    for asks in [true, false] {
        let (mut host, device) = Queue::anonymous(QueueLayout::with_slots(8)).expect("memory");
        let driver = Driver::new(&device);
        let order = RefCell::new(Vec::new());
        thread::scope(|scope| {
            if asks {
                scope.spawn(move || {
                    let slot = claim(&mut host, 1)[0];
                    host.complete(slot, Ok(0)).expect("claimed");
                });
            }
            let late = async {
                driver.begun().await;
                order.borrow_mut().push("late");
                Ok(())
            };
            let early = async {
                if asks {
                    let outcome = driver.ask(Request::fence()).await.expect("an outcome");
                    assert!(outcome.bytes().is_ok());
                }
                order.borrow_mut().push("early");
                driver.begin();
                Ok(())
            };
            type Lane<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;
            let lanes: [Lane<'_>; 2] = [Box::pin(late), Box::pin(early)];
            driver.run(join(lanes.into_iter())).expect("no failure");
        });
        assert_eq!(*order.borrow(), ["early", "late"]);
    }
}
