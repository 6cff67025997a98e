//! Two instances do not share a port, neither by accident nor by `SO_REUSEPORT`.

use crate::conformance::client::{all_answered, crowd};
use crate::conformance::spec::Spec;
use crate::conformance::stage::{Outcome, Stage, Verdict};
use crate::listener::ListenSpec;

pub(super) fn second_instance(stage: &Stage) -> Outcome {
    let mut first = stage.serving(&stage.spec())?;
    let address = first.address()?;
    let listeners = vec![ListenSpec::from(address)];
    let mut second = stage.start(&Spec { listeners, ..stage.spec() })?;
    second.journal().expect("the port is in use");
    let status = second.wait_end("its port is taken")?;
    if status.code() != Some(1) {
        return Err(format!("the second instance ended with {status}"));
    }
    second.wait_nothing_left()?;
    if !second.journal().said().is_empty() {
        return Err("the second instance started workers".to_owned());
    }
    // It said why.
    second.journal().wait_log("the port is in use")?;
    all_answered(crowd(address, 50, "serve")?)?;
    first.finish()?;
    Ok(Verdict::Passed)
}
