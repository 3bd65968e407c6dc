//! Reading ahead: a disk that is asked for one small file at a time is idle for most of it.

/// How many files are asked for before the first of them is read. More bring nothing: a disk has its hands full long before.
const WINDOW: usize = 64;

/// How far ahead somebody is who reads files one after another, in the order of a list.
#[derive(Default, Debug)]
pub struct ReadAhead {
    asked: usize,
}

impl ReadAhead {
    /// Of the files still to be read, those whose turn it is to be asked for ([`Dir::read_ahead`](super::Dir::read_ahead)). To
    /// be called before each is read, and with it as the first.
    pub fn due<'a, T>(&mut self, to_be_read: &'a [T]) -> &'a [T] {
        let until = match self.asked <= WINDOW / 2 {
            true => to_be_read.len().min(WINDOW),
            false => self.asked,
        };
        let due = to_be_read.get(self.asked..until).unwrap_or_default();
        self.asked = until.saturating_sub(1);
        due
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_is_asked_for_once_and_in_time(count in 0usize..500) {
            let files: Vec<usize> = (0..count).collect();
            let (mut ahead, mut asked) = (ReadAhead::default(), Vec::<usize>::new());
            for read in 0..count {
                asked.extend(ahead.due(&files[read..]));
                prop_assert!(asked.len() > read && asked.len() <= read + WINDOW);
            }
            prop_assert_eq!(asked, files);
        }
    }
}
