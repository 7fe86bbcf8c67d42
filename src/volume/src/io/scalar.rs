//! The types voxels are stored as.

use std::io::{self, Write};

/// Type of a stored voxel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named for the Rust type it is")]
pub enum ScalarType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

macro_rules! for_each_scalar {
    ($self:expr, $type:ident => $body:expr) => {
        match $self {
            ScalarType::U8 => {
                type $type = u8;
                $body
            }
            ScalarType::I8 => {
                type $type = i8;
                $body
            }
            ScalarType::U16 => {
                type $type = u16;
                $body
            }
            ScalarType::I16 => {
                type $type = i16;
                $body
            }
            ScalarType::U32 => {
                type $type = u32;
                $body
            }
            ScalarType::I32 => {
                type $type = i32;
                $body
            }
            ScalarType::U64 => {
                type $type = u64;
                $body
            }
            ScalarType::I64 => {
                type $type = i64;
                $body
            }
            ScalarType::F32 => {
                type $type = f32;
                $body
            }
            ScalarType::F64 => {
                type $type = f64;
                $body
            }
        }
    };
}

impl ScalarType {
    /// Size in bytes.
    pub fn bytes(self) -> usize {
        for_each_scalar!(self, T => size_of::<T>())
    }

    /// Name, as in Rust: `u8`, `f32`.
    pub fn name(self) -> &'static str {
        for_each_scalar!(self, T => std::any::type_name::<T>())
    }

    /// Appends every `step`-th scalar of `bytes` to `out`, scaled.
    #[expect(clippy::unnecessary_cast, reason = "the macro casts from every type, float32 and float64 among them")]
    pub(crate) fn decode(
        self,
        bytes: &[u8],
        big_endian: bool,
        step: usize,
        slope: f64,
        intercept: f64,
        out: &mut Vec<f32>,
    ) {
        let plain = slope == 1.0 && intercept == 0.0;
        for_each_scalar!(self, T => {
            let words = bytes.chunks_exact(size_of::<T>()).step_by(step).map(|word| {
                let word = word.try_into().expect("a whole word");
                if big_endian { T::from_be_bytes(word) } else { T::from_le_bytes(word) }
            });
            if plain {
                out.extend(words.map(|value| value as f32));
            } else {
                // In double precision, as other readers do, and rounded once.
                out.extend(words.map(|value| (value as f64 * slope + intercept) as f32));
            }
        });
    }
}

impl ScalarType {
    /// Hands every `step`-th scalar of `bytes` to `take`, unscaled, until that answers an error.
    #[expect(clippy::unnecessary_cast, reason = "the macro casts from every type, float64 among them")]
    pub(crate) fn for_each_double<E>(
        self,
        bytes: &[u8],
        big_endian: bool,
        step: usize,
        mut take: impl FnMut(f64) -> Result<(), E>,
    ) -> Result<(), E> {
        for_each_scalar!(self, T => {
            bytes.chunks_exact(size_of::<T>()).step_by(step).try_for_each(|word| {
                let word = word.try_into().expect("a whole word");
                take((if big_endian { T::from_be_bytes(word) } else { T::from_le_bytes(word) }) as f64)
            })
        })
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A voxel type that can be written.
pub trait Scalar: Copy + sealed::Sealed {
    /// How it is stored.
    const TYPE: ScalarType;

    /// Writes it, little-endian.
    ///
    /// # Errors
    /// What the writer answers.
    fn write(self, to: &mut dyn Write) -> io::Result<()>;
}

macro_rules! scalar {
    ($($type:ty => $name:ident),*) => {
        $(
            impl sealed::Sealed for $type {}
            impl Scalar for $type {
                const TYPE: ScalarType = ScalarType::$name;

                fn write(self, to: &mut dyn Write) -> io::Result<()> {
                    to.write_all(&self.to_le_bytes())
                }
            }
        )*
    };
}

scalar!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32, f64 => F64);

/// Writes voxels, little-endian, in blocks.
pub(crate) fn write_all<T: Scalar>(data: &[T], to: &mut impl Write) -> io::Result<()> {
    let mut block = Vec::with_capacity(1 << 16);
    for chunk in data.chunks(1 << 13) {
        block.clear();
        for &value in chunk {
            value.write(&mut block)?;
        }
        to.write_all(&block)?;
    }
    Ok(())
}
