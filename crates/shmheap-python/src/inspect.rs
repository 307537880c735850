//! What a heap tells about itself, as the arguments of the Python classes that show it
//! (`_reports.py`).

use pyo3::prelude::*;
use pyo3::types::PyDict;
use shmheap::{Info, Peer, Report, Stats, Usage};

use crate::place::policy_name;

/// A dictionary of the fields named, each under its own name.
macro_rules! fields {
    ($py:expr, $value:expr, $($field:ident),+) => {{
        let fields = PyDict::new($py);
        $(fields.set_item(stringify!($field), &$value.$field)?;)+
        fields
    }};
}

pub(crate) fn info<'py>(py: Python<'py>, info: &Info) -> PyResult<Bound<'py, PyDict>> {
    let all = fields!(
        py,
        info,
        format_version,
        granule_bytes,
        len_bytes,
        max_len_bytes,
        data_offset_bytes,
        peer_limit,
        created_unix_ns,
        id
    );
    all.set_item("ephemeral", info.is_ephemeral)?;
    all.set_item("labels", info.has_labels)?;
    all.set_item("policy", policy_name(info.policy))?;
    all.set_item("address", info.address.map(|address| address.get()))?;
    Ok(all)
}

pub(crate) fn stats<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    let all = fields!(
        py,
        stats,
        len_bytes,
        max_len_bytes,
        live_bytes,
        live_objects,
        free_bytes,
        tail_bytes,
        trimmed_bytes,
        largest_free_bytes,
        metadata_bytes,
        operations,
        lock_holder,
        peers_alive,
        peers_dead
    );
    all.set_item("fragmentation", stats.fragmentation())?;
    let classes = stats.classes.iter().map(|class| {
        Ok(fields!(
            py,
            class,
            object_bytes,
            owned_slabs,
            shared_slabs,
            live_objects,
            free_owned,
            free_shared,
            tail_bytes
        ))
    });
    all.set_item("classes", classes.collect::<PyResult<Vec<_>>>()?)?;
    let owners = stats.owners.iter().map(|owner| Ok(fields!(py, owner, slot, live_objects)));
    all.set_item("owners", owners.collect::<PyResult<Vec<_>>>()?)?;
    Ok(all)
}

pub(crate) fn usage<'py>(py: Python<'py>, usage: &Usage) -> PyResult<Bound<'py, PyDict>> {
    let all = fields!(py, usage, bytes, objects, quota_bytes, peer_quota_bytes, is_recount_due);
    let tags = usage.tags.iter();
    let tags = tags.map(|tag| Ok(fields!(py, tag, name, bytes, objects, quota_bytes)));
    all.set_item("tags", tags.collect::<PyResult<Vec<_>>>()?)?;
    let peers = usage.peers.iter();
    let peers = peers.map(|peer| Ok(fields!(py, peer, slot, stay, pid, alive, bytes, objects)));
    all.set_item("peers", peers.collect::<PyResult<Vec<_>>>()?)?;
    Ok(all)
}

pub(crate) fn peer<'py>(py: Python<'py>, peer: &Peer) -> PyResult<Bound<'py, PyDict>> {
    Ok(fields!(py, peer, slot, alive, is_self, pid, pid_namespace, connected_unix_ns, command))
}

pub(crate) fn report<'py>(py: Python<'py>, report: &Report) -> PyResult<Bound<'py, PyDict>> {
    let all = fields!(
        py,
        report,
        more_findings,
        stood_still,
        recovery_pending,
        blocks,
        live_objects,
        live_bytes,
        free_bytes,
        tail_bytes
    );
    let findings = report.findings.iter();
    let findings = findings.map(|finding| Ok(fields!(py, finding, rule, offset_bytes, detail)));
    all.set_item("findings", findings.collect::<PyResult<Vec<_>>>()?)?;
    Ok(all)
}
