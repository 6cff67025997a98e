//! Connections are served, and know where they came from.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::conformance::client::{Client, all_answered, crowd};
use crate::conformance::proc;
use crate::conformance::spec::{Spec, listener};
use crate::conformance::stage::{Outcome, Stage, Verdict};
use crate::inherit::ENV_WORKER;

pub(super) fn connections(stage: &Stage) -> Outcome {
    let mut herd = stage.serving(&stage.spec())?;
    let address = herd.address()?;
    if address.port() == 0 {
        return Err("it reports port 0 instead of the one it has".to_owned());
    }
    let seats = herd.seats();
    for _ in 0..20 {
        let mut client = Client::asking(address, "serve").map_err(|lost| lost.to_string())?;
        let local = client.local().map_err(|e| e.to_string())?;
        let answer = client.answer().map_err(|lost| lost.to_string())?;
        client.end().map_err(|lost| lost.to_string())?;
        let says = (answer.peer, &answer.address, answer.listener.as_str());
        if says != (local.into(), &address.into(), "main") {
            return Err(format!(
                "{local} came through main={address}, but the worker says {answer:?}"
            ));
        }
        if !seats.iter().any(|seat| seat.worker == answer.worker && seat.pid == answer.pid) {
            return Err(format!("{answer:?} is from none of {seats:?}"));
        }
    }
    // However many listeners there are, they share the port.
    let queues = proc::queued_by_listener(herd.pid(), address).map_err(|e| e.to_string())?;
    if queues.is_empty() {
        return Err("the supervisor holds no listener on its port".to_owned());
    }
    herd.finish()?;
    Ok(Verdict::Passed)
}

pub(super) fn two_listeners(stage: &Stage) -> Outcome {
    let listeners = vec![listener("main=127.0.0.1:0"), listener("admin=127.0.0.1:0")];
    let mut herd = stage.serving(&Spec { listeners, ..stage.spec() })?;
    for name in ["main", "admin", "main"] {
        let address = herd.address_of(name)?;
        for answer in all_answered(crowd(address, 8, "serve")?)? {
            if answer.listener != name || answer.address != address.into() {
                return Err(format!("came through {name}={address}, but: {answer:?}"));
            }
        }
    }
    herd.finish()?;
    Ok(Verdict::Passed)
}

pub(super) fn ipv6(stage: &Stage) -> Outcome {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        return Ok(Verdict::Skipped(format!("this machine has no [::1]: {error}")));
    }
    let mut herd =
        stage.serving(&Spec { listeners: vec![listener("main=[::1]:0")], ..stage.spec() })?;
    let address = herd.address()?;
    for _ in 0..8 {
        let mut client = Client::asking(address, "serve").map_err(|lost| lost.to_string())?;
        let local = client.local().map_err(|e| e.to_string())?;
        let answer = client.answer().map_err(|lost| lost.to_string())?;
        if answer.peer != local.into() {
            return Err(format!("{local} is called {}", answer.peer));
        }
    }
    herd.finish()?;
    Ok(Verdict::Passed)
}

pub(super) fn title(stage: &Stage) -> Outcome {
    let mut herd = stage.serving(&stage.spec())?;
    for seat in herd.seats() {
        let failed = |e: std::io::Error| e.to_string();
        let variable = proc::variable(seat.pid, ENV_WORKER).map_err(failed)?;
        if variable != Some(seat.worker.to_string()) {
            return Err(format!("{ENV_WORKER} is {variable:?} in worker {}", seat.worker));
        }
        let words = proc::command_line(seat.pid).map_err(failed)?;
        if words != format!("conformance: worker {}", seat.worker.slot) {
            return Err(format!("worker {} is called `{words}`", seat.worker));
        }
    }
    herd.finish()?;
    Ok(Verdict::Passed)
}

/// That no other process keeps a copy of the connection: with one, the client would see the end only
/// when that process happens to do something else.
pub(super) fn end_of_file(stage: &Stage) -> Outcome {
    /// Far above what a close takes (0.07 ms), far below what a copy would cost.
    const AT_ONCE: Duration = Duration::from_secs(1);

    let mut herd = stage.serving(&stage.spec())?;
    let mut client = Client::asking(herd.address()?, "serve").map_err(|lost| lost.to_string())?;
    client.answer().map_err(|lost| lost.to_string())?;
    let answered = Instant::now();
    client.end().map_err(|lost| format!("after the answer: {lost}"))?;
    if answered.elapsed() > AT_ONCE {
        return Err(format!("the end came {:?} after the answer", answered.elapsed()));
    }
    herd.finish()?;
    Ok(Verdict::Passed)
}
