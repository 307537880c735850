//! Names of the user's that are names of the language's or the macro's, too.

mod here {
    pub use shmheap as there;
}
mod core {}
mod shmheap {}
struct Fingerprint;
trait Shareable {}

macro_rules! made_by_a_macro {
    ($name:ident, $field:ident: $ty:ty) => {
        #[derive(here::there::Shareable)]
        #[repr(C)]
        struct $name {
            $field: $ty,
        }
    };
}
made_by_a_macro!(Made, value: u32);

#[derive(here::there::Shareable)]
#[repr(C)]
#[shareable(crate = "crate::here::there")]
struct r#struct<const text: u32> {
    r#type: u32,
    end: [u8; 4],
}

fn main() {
    let value = r#struct::<1> { r#type: 1, end: [0; 4] };
    assert_eq!((value.r#type, value.end), (1, [0; 4]));
    assert_eq!(Made { value: 1 }.value, 1);
    let all = [
        <Made as here::there::Shareable>::FINGERPRINT,
        <r#struct<1> as here::there::Shareable>::FINGERPRINT,
        <r#struct<2> as here::there::Shareable>::FINGERPRINT,
    ];
    assert!(all[0] != all[1] && all[1] != all[2]);
}
