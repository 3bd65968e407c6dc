//! How much of the whole a part is, for who is told how far the work is.

/// A part of the whole: where it begins, and how large it is, both in 0..1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Share {
    begin: f64,
    width: f64,
}

impl Share {
    /// All of it.
    pub(super) const WHOLE: Self = Self {
        begin: 0.0,
        width: 1.0,
    };

    /// The whole, in parts that are as large as these sizes say.
    pub(super) fn by_size(sizes: &[usize]) -> Vec<Self> {
        let all = sizes.iter().sum::<usize>().max(1) as f64;
        let mut before = 0;
        let parts = sizes.iter().map(|size| {
            let begin = before as f64 / all;
            before += size;
            Self {
                begin,
                width: *size as f64 / all,
            }
        });
        parts.collect()
    }

    /// One of several equal parts of it.
    pub(super) fn part(self, index: usize, of: usize) -> Self {
        let width = self.width / of.max(1) as f64;
        Self {
            begin: self.begin + width * index as f64,
            width,
        }
    }

    /// How much of the whole is done when this begins.
    pub(super) fn begin(self) -> f64 {
        self.begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_as_large_as_what_is_in_them_and_end_where_the_next_begins() {
        let [empty, most, some] = Share::by_size(&[0, 30, 10]).try_into().unwrap();
        assert_eq!((empty.width, most.begin, some.begin), (0.0, 0.0, 0.75));
        let end = most.part(29, 30).begin + most.part(29, 30).width;
        assert!((end - some.begin).abs() < 1e-9, "{end}");
        assert_eq!(Share::by_size(&[0])[0].begin, 0.0);
    }
}
