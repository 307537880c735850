//! Attributes that say nothing, or what goes elsewhere.

use shmheap::Shareable;

#[derive(Shareable)]
#[repr(C)]
#[shareable(rename = "Y")]
struct Unknown(u32);

#[derive(Shareable)]
#[repr(C)]
#[shareable(name = "A", name = "B")]
struct Twice(u32);

#[derive(Shareable)]
#[repr(C)]
#[shareable(name)]
struct NoName(u32);

#[derive(Shareable)]
#[repr(C)]
struct OnField(#[shareable(skip)] u32);

#[derive(Shareable)]
#[repr(C)]
struct OnParameter<#[shareable(name = "T")] T>(T);

#[derive(Shareable)]
#[repr(C)]
struct OnNumber<#[shareable(skip)] const N: usize>([u32; N]);

fn main() {}
