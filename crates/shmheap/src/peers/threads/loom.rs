//! Thread records under loom: those who take the first ones at once, over weak memory.

use super::{OWNER, THREAD_WORDS, ThreadTable};
use crate::segment::interleaved::{Memory, explore, start};
use crate::segment::words::Words;
use crate::units::{PeerSlot, WordIndex};

const USED: WordIndex = WordIndex(0);
/// Not more: with two records in use, where a search begins would differ from order to order.
const RECORDS: u16 = 2;
const TABLE: ThreadTable = ThreadTable::new(WordIndex(16), RECORDS, USED);

#[test]
fn two_who_come_at_once_get_records_of_their_own() {
    explore(4, || {
        let records = (0..u64::from(RECORDS) * THREAD_WORDS).map(|word| WordIndex(16 + word));
        let memory = Memory::new(records.chain([USED]), [], &[]);
        let claiming = [PeerSlot(0), PeerSlot(1)].map(|peer| {
            let view = memory.view();
            start(move || (peer, TABLE.claim(&view, peer, &|_| Ok(())).unwrap()))
        });
        let claimed = claiming.map(|claiming| claiming.join().unwrap());
        assert_ne!(claimed[0].1, claimed[1].1);
        let view = memory.view();
        for (peer, record) in claimed {
            assert_eq!(view.load(TABLE.word(record, OWNER)), u64::from(peer.0) + 1);
            assert!(record.number() < TABLE.used(&view), "a record that nobody would look at");
        }
    });
}
