//! What the header promises, sentence by sentence: each test runs one case of a C program.

use crate::support::run_case;

macro_rules! cases {
    ($($module:ident, $source:literal: $($case:ident)*;)*) => {$(
        mod $module {
            $(
                #[test]
                fn $case() {
                    super::run_case($source, stringify!($case));
                }
            )*
        }
    )*};
}

cases! {
    original, "original.c":
        handles_are_scalars lengths odd_lengths every_size_fits distances first_fit
        joins_both_sides full nothing unmaps several errors;
    fork, "fork.c":
        handles_through_a_pipe generations threads_left_behind;
    misuse, "misuse.c":
        memory_handles pointers object_handles names sizes foreign_objects;
    roots, "roots.c":
        named wrong_arguments listed read_only two_processes killed;
    mutex, "mutex.c":
        locks wrong_arguments counts killed;
    channel, "channel.c":
        messages closed wrong_arguments two_processes;
    labels, "labels.c":
        tags quotas wrong_arguments without_labels killed;
    threads, "threads.c":
        churn errors_are_per_thread connections disconnect_races thread_ends;
    options, "options.c":
        versions wrong_values granules statistics mode_and_group ephemeral;
    address, "address.c":
        pointers taken wrong_options;
    extended, "extended.c":
        zeroed resized aligned grows read_only in_a_file memfd thousands_of_heaps audit texts;
    crowd, "crowd.c":
        gather gather_scalable;
    scalable, "scalable.c":
        sizes zeroed resized aligned stale_handles wrong_pointers forked killed trimmed full grows;
    hands, "hands.c":
        come_and_go ends disconnected_by_another ends_race_with_disconnect
        calls_race_with_disconnect;
}
