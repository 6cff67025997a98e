//! What the machine and the build mean for every figure.

use crate::measure::latency::to_f64;
use crate::report::Caution;
use crate::report::machine::{Build, Machine};

/// More processes than this fraction of the processors that want to run, and a machine is busy.
const BUSY: f64 = 0.5;

/// The backlog that servers ask for.
const BACKLOG: u64 = 4096;

/// What holds for every figure of a run on `machine`, by `build`, while `load` processes wanted to run
/// just before it began.
#[must_use]
pub fn of_run(machine: &Machine, build: &Build, load: Option<f64>) -> Vec<Caution> {
    let all = [
        busy(machine, load),
        one_core(machine),
        limited(machine),
        pinned(machine),
        governed(machine),
        is_virtual(machine),
        short_backlog(machine),
        always_cookies(machine),
        debug_build(build),
    ];
    all.into_iter().flatten().collect()
}

fn busy(machine: &Machine, load: Option<f64>) -> Option<Caution> {
    let load = load.filter(|&load| load > BUSY * to_f64(machine.online.max(1) as u64))?;
    Some(Caution::new(
        format!("In the minute before, {load:.1} processes on average wanted to run."),
        "What else runs takes time from servers and client, and not from all alike.",
        "Wait until the machine is quiet, and run one benchmark at a time.",
    ))
}

fn one_core(machine: &Machine) -> Option<Caution> {
    (machine.cpus == 1).then(|| {
        Caution::new(
            "There is one processor for servers, client and everything else.",
            "Open-loop latencies contain the client's own work, and whatever parallelism would \
             bring or cost is not seen.",
            "Allow two processors at least for tails and faults; cost is measured on one anyway.",
        )
    })
}

fn limited(machine: &Machine) -> Option<Caution> {
    let limit = machine.cpu_limit.filter(|&limit| limit < to_f64(machine.online as u64))?;
    Some(Caution::new(
        format!("A cgroup allows {limit:.2} of {} processors' time.", machine.online),
        "Whoever uses it up stands still until the next period, up to 0.1 s: a tail made by the \
         scheduler.",
        "Lift the limit (docker: --cpus, Kubernetes: limits.cpu), or pin to whole processors.",
    ))
}

fn pinned(machine: &Machine) -> Option<Caution> {
    let list = machine.pinned.as_ref()?;
    Some(Caution::new(
        format!("This run may use processors {list} of {} only.", machine.online),
        "Its figures are those of a smaller machine, and others may use the same processors.",
        "Mind it when comparing with runs elsewhere, or run without taskset and cpusets.",
    ))
}

fn governed(machine: &Machine) -> Option<Caution> {
    let governor = machine.governor.as_ref().filter(|name| *name != "performance")?;
    Some(Caution::new(
        format!("The processors' frequency is governed by `{governor}`."),
        "An idle processor is slow when work comes: open-loop latencies contain its getting up to \
         speed. Ratios within a round are affected less.",
        "cpupower frequency-set -g performance, for the time of the measurement.",
    ))
}

fn is_virtual(machine: &Machine) -> Option<Caution> {
    machine.virtual_on.as_ref()?;
    Some(Caution::new(
        "This is a virtual machine.",
        "Its host's other guests and its changing frequency are invisible here, apart from stolen \
         time, which not every host tells.",
        "Believe ratios within a run more than figures of two runs, and repeat what matters.",
    ))
}

fn short_backlog(machine: &Machine) -> Option<Caution> {
    let somaxconn = machine.somaxconn.parse::<u64>().ok().filter(|&most| most < BACKLOG)?;
    Some(Caution::new(
        format!("The kernel cuts every backlog to {somaxconn} (net.core.somaxconn)."),
        "A burst beyond that waits for a retransmission, 1 s and more; strategies with a queue per \
         worker have that many times more room.",
        format!("sysctl -w net.core.somaxconn={BACKLOG}"),
    ))
}

fn always_cookies(machine: &Machine) -> Option<Caution> {
    let always = machine.sysctls.get("net.ipv4.tcp_syncookies").is_some_and(|value| value == "2");
    always.then(|| {
        Caution::new(
            "Every handshake uses SYN cookies (net.ipv4.tcp_syncookies is 2).",
            "It then takes another path through the kernel than elsewhere, and steering programs \
             are called at other times.",
            "sysctl -w net.ipv4.tcp_syncookies=1",
        )
    })
}

fn debug_build(build: &Build) -> Option<Caution> {
    build.debug.then(|| {
        Caution::new(
            "This program was built without optimisation.",
            "Servers and client need several times the processor time of a release build.",
            "Build it with --release.",
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::check;
    use super::*;

    /// A machine that has nothing to be said against.
    fn good() -> Machine {
        Machine {
            cpus: 4,
            online: 4,
            somaxconn: "4096".to_owned(),
            governor: Some("performance".to_owned()),
            sysctls: BTreeMap::from([("net.ipv4.tcp_syncookies".to_owned(), "1".to_owned())]),
            ..Machine::default()
        }
    }

    #[test]
    fn whatever_is_wrong_with_the_machine_is_said_and_nothing_else() {
        let of = |machine: Machine| of_run(&machine, &Build::default(), Some(1.9));
        assert_eq!(of(good()), []);
        let one = Machine { cpus: 1, ..good() };
        check(&of(one), "There is one processor");
        let limited = Machine { cpu_limit: Some(1.5), ..good() };
        check(&of(limited), "A cgroup allows 1.50 of 4 processors' time.");
        assert_eq!(of(Machine { cpu_limit: Some(4.0), ..good() }), []);
        let pinned = Machine { pinned: Some("0-1".to_owned()), ..good() };
        check(&of(pinned), "This run may use processors 0-1 of 4 only.");
        let governed = Machine { governor: Some("powersave".to_owned()), ..good() };
        check(&of(governed), "The processors' frequency is governed by `powersave`.");
        let guest = Machine { virtual_on: Some("yes".to_owned()), ..good() };
        check(&of(guest), "This is a virtual machine.");
        let short = Machine { somaxconn: "128".to_owned(), ..good() };
        check(&of(short), "The kernel cuts every backlog to 128");
        let mut cookies = good();
        cookies.sysctls.insert("net.ipv4.tcp_syncookies".to_owned(), "2".to_owned());
        check(&of(cookies), "Every handshake uses SYN cookies");
    }

    #[test]
    fn a_busy_machine_and_a_debug_build_are_said() {
        let build = Build { debug: true, ..Build::default() };
        check(&of_run(&good(), &build, None), "This program was built without optimisation.");
        let busy = of_run(&good(), &Build::default(), Some(2.1));
        check(&busy, "In the minute before, 2.1 processes on average");
    }
}
