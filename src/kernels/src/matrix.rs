//! Matrix products on raw strided operands, and rows of an output that several threads share.

use gemm::Parallelism;

/// A matrix that is read: element (row, column) lies at `row * row_stride + column * column_stride` from `data`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix {
    pub(crate) data: *const f32,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl Matrix {
    /// The same matrix without its first `rows` rows.
    ///
    /// # Safety
    /// The matrix has more than `rows` rows, all readable.
    pub(crate) unsafe fn skip_rows(self, rows: usize) -> Self {
        // SAFETY: the caller's promise.
        Self { data: unsafe { self.data.add(rows * self.row_stride) }, ..self }
    }

    pub(crate) fn transposed(self) -> Self {
        Self { row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }
}

/// A block of rows that one thread writes inside an output shared with others: rows contiguous, `stride` apart.
pub(crate) struct Rows<'a> {
    data: *mut f32,
    rows: usize,
    width: usize,
    stride: usize,
    /// The output stays mutably borrowed while any of its blocks lives.
    output: std::marker::PhantomData<&'a mut [f32]>,
}

impl<'a> Rows<'a> {
    /// # Safety
    /// For as long as the block lives, elements `row * stride + column` of `data` (`row < rows`, `column < width`) are
    /// valid, and nothing else reads or writes them. `width <= stride`.
    pub(crate) unsafe fn new(data: *mut f32, rows: usize, width: usize, stride: usize) -> Self {
        debug_assert!(width <= stride);
        Self { data, rows, width, stride, output: std::marker::PhantomData }
    }

    pub(crate) fn from_slice(data: &'a mut [f32], rows: usize, width: usize, stride: usize) -> Self {
        assert!(
            width <= stride && rows.saturating_sub(1) * stride + width <= data.len(),
            "block of rows outside slice"
        );
        // SAFETY: the assertion keeps every element inside the slice, which is borrowed mutably for 'a.
        unsafe { Self::new(data.as_mut_ptr(), rows, width, stride) }
    }

    #[inline(always)]
    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows);
        // SAFETY: `new` promised that the row is valid and this block's alone, and `&mut self` keeps it the only slice.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.stride), self.width) }
    }

    /// `self = scale * left * right`, or `self += ...` if `accumulate`; `left` has `inner` columns. On this thread.
    ///
    /// # Safety
    /// Every element of `left` (this block's rows times `inner`) and of `right` (`inner` times this block's width) can
    /// be read, and none is an element of this block.
    pub(crate) unsafe fn product(&mut self, inner: usize, left: Matrix, right: Matrix, scale: f32, accumulate: bool) {
        let (left_rows, left_columns) = (step(left.row_stride, self.rows), step(left.column_stride, inner));
        let (right_rows, right_columns) = (step(right.row_stride, inner), step(right.column_stride, self.width));
        // SAFETY: the operands are readable (the caller's promise), the destination is this block's alone (the promise
        // to `new`), and sizes and strides are passed on unchanged.
        unsafe {
            gemm::gemm(
                self.rows,
                self.width,
                inner,
                self.data,
                1,
                step(self.stride, self.rows),
                accumulate,
                left.data,
                left_columns,
                left_rows,
                right.data,
                right_columns,
                right_rows,
                1.0,
                scale,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

/// A stride as `gemm` takes it. Where there is only one element to step over, the stride means nothing and may be
/// any number; elsewhere it is smaller than the slice and so fits.
fn step(stride: usize, count: usize) -> isize {
    if count > 1 { stride as isize } else { 1 }
}

/// The start of an output that several threads write, each its own part.
pub(crate) struct SharedOutput<T = f32>(*mut T);

impl<T> Clone for SharedOutput<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SharedOutput<T> {}

// SAFETY: the pointer is only followed by unsafe code that promises blocks to be disjoint.
unsafe impl<T: Send> Send for SharedOutput<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedOutput<T> {}

impl<T> SharedOutput<T> {
    pub(crate) fn new(output: &mut [T]) -> Self {
        Self(output.as_mut_ptr())
    }

    /// Where element `index` lies, or would: to be told to the cache.
    pub(crate) fn address(self, index: usize) -> *const T {
        self.0.wrapping_add(index)
    }

    /// # Safety
    /// `index` lies within the output.
    pub(crate) unsafe fn at(self, index: usize) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(index) }
    }
}
