//! The inputs that are kept, and what can be made of them.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// The inputs that are kept for one target.
#[derive(Clone)]
pub(crate) struct Kept(Vec<(PathBuf, Vec<u8>)>);

impl Kept {
    pub(crate) fn of(target: &str) -> Self {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let corpus = inputs(&tests.join("fuzz/corpus").join(target));
        assert!(corpus.len() > 20, "no corpus is kept for {target}");
        let mut all = corpus;
        all.extend(inputs(&tests.join("fuzz/regressions").join(target)));
        if target == "record" {
            all.extend(inputs(&tests.join("data/json-test-suite")));
        }
        Self(all)
    }

    /// Checks each of them.
    pub(crate) fn replay(&self, check: fn(&[u8])) {
        for (path, input) in &self.0 {
            let checked = catch_unwind(AssertUnwindSafe(|| check(input)));
            assert!(checked.is_ok(), "{} breaks the law above", path.display());
        }
    }

    /// One of them, with some damage, and perhaps a part of another.
    pub(crate) fn mutated(self) -> impl Strategy<Value = Vec<u8>> {
        let edits = vec((any::<Edit>(), any::<Index>(), any::<Index>()), 1..5);
        (any::<Index>(), any::<Index>(), edits).prop_map(move |(one, other, edits)| {
            let [mut input, other] = [one, other].map(|index| index.get(&self.0).1.clone());
            // Of the longest, in the JSONTestSuite, a part is enough.
            input.truncate(8 << 10);
            for (edit, at, end) in &edits {
                edit.make(&mut input, &other, at, end);
            }
            input
        })
    }
}

/// The files of a directory, in the order of their names; none where there is no such directory.
fn inputs(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let input = fs::read(&path).unwrap();
        (path, input)
    };
    paths.into_iter().map(read).collect()
}

/// One kind of damage.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    Put(Vec<u8>),
    Remove,
    Repeat,
    Splice,
}

impl Arbitrary for Edit {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        prop_oneof![
            vec(any::<u8>(), 1..4).prop_map(Self::Put),
            "[\\\\\"{}\\[\\]:, \n0-9a-fu\u{1d}\u{1e}]{1,3}".prop_map(|text| Self::Put(text.into_bytes())),
            Just(Self::Remove),
            Just(Self::Repeat),
            Just(Self::Splice),
        ]
        .boxed()
    }
}

impl Edit {
    pub(crate) fn make(&self, input: &mut Vec<u8>, other: &[u8], at: &Index, end: &Index) {
        let at = at.index(input.len() + 1);
        let end = at + end.index((input.len() - at + 1).min(64));
        match self {
            Self::Put(bytes) => {
                _ = input.splice(at..(at + bytes.len()).min(input.len()), bytes.iter().copied())
            }
            Self::Remove => _ = input.drain(at..end),
            Self::Repeat => input.extend_from_within(at..end),
            Self::Splice => {
                let from = at.min(other.len());
                let to = end.min(other.len());
                _ = input.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
}
