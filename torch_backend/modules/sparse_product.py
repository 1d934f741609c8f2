"""Product of a constant sparse matrix and a dense tensor, with gradients for the dense factor."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import torch


class SparseOperator:
    """A constant (rows, columns) matrix that acts on the first dimension of a tensor.

    torch's own backward of a CSR product builds the transpose at each step and knows no bfloat16. Here the transpose
    is kept, and half precision inputs go through a float32 island, also inside autocast.
    """

    def __init__(self, matrix: scipy.sparse.spmatrix) -> None:
        csr = scipy.sparse.csr_matrix(matrix)
        csr.sort_indices()
        self.shape: tuple[int, int] = csr.shape
        self._forward_arrays = _arrays(csr)
        transposed = csr.T.tocsr()
        transposed.sort_indices()
        self._backward_arrays = _arrays(transposed)
        self._tensors: dict[tuple[torch.device, torch.dtype], tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Multiply.

        Args:
            values: (columns, ...) of any floating type.

        Returns:
            (rows, ...), float32 or float64.

        Raises:
            ValueError: the first dimension does not match.
        """
        if values.shape[0] != self.shape[1]:
            raise ValueError(f"expected {self.shape[1]} rows, got a tensor of shape {tuple(values.shape)}")
        with torch.autocast(values.device.type, enabled=False):
            full = values if values.dtype == torch.float64 else values.float()
            matrix, transposed = self._on(full.device, full.dtype)
            flat = full.reshape(values.shape[0], -1)
            product: torch.Tensor = _SparseProduct.apply(matrix, transposed, flat)
        return product.view(self.shape[0], *values.shape[1:])

    def _on(self, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """The matrix and its transpose on a device, made once."""
        key = (device, dtype)
        if key not in self._tensors:
            rows, columns = self.shape
            self._tensors[key] = (
                _to_tensor(self._forward_arrays, (rows, columns), device, dtype),
                _to_tensor(self._backward_arrays, (columns, rows), device, dtype),
            )
        return self._tensors[key]


class _SparseProduct(torch.autograd.Function):
    """y = A x with the gradient A^T y'."""

    @staticmethod
    def forward(ctx: Any, matrix: torch.Tensor, transposed: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        ctx.transposed = transposed
        return torch.sparse.mm(matrix, values)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, None, torch.Tensor]:
        return None, None, torch.sparse.mm(ctx.transposed, gradients[0].contiguous())


def _arrays(matrix: scipy.sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data.astype(np.float64)


def _to_tensor(
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray],
    shape: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
) -> torch.Tensor:
    starts, indices, data = (torch.from_numpy(array).to(device) for array in arrays)
    tensor = torch.sparse_csr_tensor(starts, indices, data.to(dtype), shape, check_invariants=False)
    # CSR products are missing on some accelerators (MPS); coordinates work there.
    return tensor if device.type in ("cpu", "cuda") else tensor.to_sparse_coo()
