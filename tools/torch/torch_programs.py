"""The programs that tools/torch/torch_peer.py times: the LSTM of PyTorch (cuDNN's), of FlashRNN and of Haste, and a training step in
PyTorch.

Each program has run(i), which enqueues one pass over input set i; error(), the largest error against the same computation in float64
without dropout; bound, the largest allowed error; and T, words and flops of a pass. T is the number of steps, B the batch, H the units;
tensors are time-major.

FlashRNN and Haste are not part of this repository; they are imported from a folder that the user names.
"""
import copy
import importlib
import os
import sys

INPUTS = 4  # number of input sets
CHECKED = 64  # number of steps of a long sequence that are compared, since float64 is slow
VOCABULARY = 10000
# Largest error against float64, relative to the largest value: the rounding of a precision's operands and sums over H, with a margin for
# accumulation over the steps. A wrong result has a far larger error.
ALLOWED = {"f32": 1e-4, "tf32": 2e-2, "f16": 5e-2, "bf16": 2e-1}
# Largest error of the first minibatch's cost and gradient norm, the same as bench_gpu's (bench/gpu_step.cpp).
ALLOWED_STEP = {"f32": 2e-5, "tf32": 2e-3, "bf16": 2e-2}


class Refused(Exception):
    """Raised with the reason why a program cannot run here."""


def largest_error(ours, truth):
    return max(float((a.double() - b.double()).abs().max() / b.double().abs().max()) for a, b in zip(ours, truth))


def passes_flops(shape, layers, backward):
    """Counts the FLOP of the products of input and recurrence; the gradients add twice as many."""
    H, B, T = shape
    return (3 if backward else 1) * layers * 16.0 * T * B * H * H


class Layers:
    """nn.LSTM as a whole, or one module per layer with F.dropout around each."""

    def __init__(self, torch, shape, word, dtype, device, backward, layers=1, modules=1, keep=0.5):
        self.torch, self.backward, self.keep, self.bound = torch, backward, keep, ALLOWED[word]
        H, B, self.T = shape
        self.words, self.flops = B * self.T, passes_flops(shape, layers, backward)
        torch.manual_seed(1)
        per_module = layers // modules
        self.rnns = [torch.nn.LSTM(H, H, num_layers=per_module).to(device, dtype) for _ in range(modules)]
        self.exact = [torch.nn.LSTM(H, H, num_layers=per_module).to(device).double() for _ in range(modules)]
        for exact, rnn in zip(self.exact, self.rnns):
            exact.load_state_dict(rnn.state_dict())  # the weights after rounding to dtype
        self.x = [torch.randn(self.T, B, H).to(device, dtype).requires_grad_(backward) for _ in range(INPUTS)]
        self.dy = (torch.randn(self.T, B, H) * 0.01).to(device, dtype)

    def parameters(self, rnns):
        return [p for rnn in rnns for p in rnn.parameters()]

    def forward(self, rnns, x, keep):
        drop = self.torch.nn.functional.dropout
        for rnn in rnns:
            if len(rnns) > 1:
                x = drop(x, 1 - keep)
            rnn.dropout = 1 - keep if rnn.num_layers > 1 else 0.0
            x = rnn(x)[0]
        return drop(x, 1 - keep) if len(rnns) > 1 else x

    def run(self, i=0):
        if not self.backward:
            with self.torch.no_grad():
                return self.forward(self.rnns, self.x[i], self.keep)
        y = self.forward(self.rnns, self.x[i], self.keep)
        self.torch.autograd.grad(y, [self.x[i], *self.parameters(self.rnns)], self.dy)
        return y

    def error(self):
        sides = []
        for rnns, dtype in ((self.rnns, self.x[0].dtype), (self.exact, self.torch.float64)):
            x = self.x[0][:CHECKED].detach().to(dtype).requires_grad_(True)
            y = self.forward(rnns, x, 1.0)
            wanted = [x, *self.parameters(rnns)] if self.backward else []
            sides.append([y, *(self.torch.autograd.grad(y, wanted, self.dy[:CHECKED].to(dtype)) if wanted else ())])
        return largest_error(*sides)


class Step:
    """A minibatch of the paper's model from embedding to update, including the carried state: dropout on the three non-recurrent sites,
    cost summed over T, norm clipping, plain SGD. The 16-bit precisions compute on a copy of the float32 weights, which is made again after
    every update: under autocast nn.LSTM would compute in float16 whatever the dtype, and flatten its weights again at every step."""

    def __init__(self, torch, shape, word, dtype, device, keep, init, clip, layers=2):
        self.torch, self.dtype, self.device, self.keep, self.clip, self.bound = torch, dtype, device, keep, clip, ALLOWED_STEP[word]
        H, B, self.T = shape
        self.words = B * self.T
        vocabulary = VOCABULARY
        self.flops = 6.0 * self.words * (8.0 * layers * H * H + vocabulary * H)
        torch.manual_seed(1)
        nn = torch.nn
        self.parts = nn.ModuleList([nn.Embedding(vocabulary, H), nn.LSTM(H, H, layers), nn.Linear(H, vocabulary)])
        for p in self.parts.parameters():
            nn.init.uniform_(p, -init, init)
        self.parts.to(device)
        self.copy = copy.deepcopy(self.parts).to(dtype) if self.is_cast() else self.parts
        self.copy[1].flatten_parameters()
        ids = torch.randint(vocabulary, (INPUTS, self.T + 1, B)).to(device)
        self.x, self.y = ids[:, :-1], ids[:, 1:]
        self.h, self.c = (torch.zeros(layers, B, H, device=device, dtype=dtype) for _ in range(2))
        self.optimizer = torch.optim.SGD(self.parts.parameters(), lr=0.01)

    def cost(self, parts, i, h, c, keep):
        functional, (embedding, rnn, decoder) = self.torch.nn.functional, parts
        rnn.dropout = 1 - keep
        y, (h, c) = rnn(functional.dropout(embedding(self.x[i]), 1 - keep), (h, c))
        logits = decoder(functional.dropout(y, 1 - keep)).flatten(0, 1)
        wide = self.torch.promote_types(logits.dtype, self.torch.float32)
        total = functional.cross_entropy(logits.to(wide), self.y[i].flatten(), reduction="sum")
        return total / self.x.shape[2], h, c

    def is_cast(self):
        return self.dtype != self.torch.float32

    def run(self, i=0):
        self.copy.zero_grad(set_to_none=True)
        cost, h, c = self.cost(self.copy, i, self.h, self.c, self.keep)
        cost.backward()
        if self.is_cast():
            for p, q in zip(self.parts.parameters(), self.copy.parameters()):
                p.grad = q.grad.to(p.dtype)
        self.torch.nn.utils.clip_grad_norm_(self.parts.parameters(), self.clip)
        self.optimizer.step()
        if self.is_cast():
            with self.torch.no_grad():
                for p, q in zip(self.parts.parameters(), self.copy.parameters()):
                    q.copy_(p)
        self.h.copy_(h.detach())
        self.c.copy_(c.detach())
        return cost.detach()

    def error(self):
        """Returns the error of the cost and gradient norm of the first minibatch, without dropout."""
        exact = copy.deepcopy(self.parts).double()
        exact[1].flatten_parameters()
        found = []
        for parts, dtype in ((self.copy, self.dtype), (exact, self.torch.float64)):
            h, c = (self.torch.zeros_like(self.h, dtype=dtype) for _ in range(2))
            cost = self.cost(parts, 0, h, c, 1.0)[0]
            gradients = self.torch.autograd.grad(cost, list(parts.parameters()))
            found.append((float(cost), float(sum(g.double().square().sum() for g in gradients).sqrt())))
        return max(abs(ours / truth - 1) for ours, truth in zip(*found))


# ---- libraries from a user's copy ----


def imported(folder, module, what):
    """Imports the module from a user's copy in that folder."""
    if not folder:
        raise Refused(f"no copy of {what} was given; --{what.lower()} FOLDER names one")
    if not os.path.isdir(folder):
        raise Refused(f"no copy of {what} was found, since the folder {folder} does not exist")
    sys.path.insert(0, os.path.abspath(folder))
    try:
        return importlib.import_module(module)
    except Exception as fault:  # a foreign module may raise anything
        raise Refused(f"the copy of {what} cannot be imported: {type(fault).__name__}: {fault}") from fault
    finally:
        sys.path.pop(0)


class Foreign:
    """One layer of another library: inputs, weights and forward(); it is compared with nn.LSTM in float64."""

    def __init__(self, torch, shape, word, dtype, device, backward):
        self.torch, self.backward, self.bound = torch, backward, ALLOWED[word]
        self.shape, self.dtype, self.device = shape, dtype, device
        H, B, self.T = shape
        self.words, self.flops = B * self.T, passes_flops(shape, 1, backward)
        torch.manual_seed(1)
        self.reference = torch.nn.LSTM(H, H).to(dtype)
        torch.nn.init.zeros_(self.reference.bias_hh_l0)  # FlashRNN and Haste have only one bias
        self.drawn = [torch.randn(self.T, B, H).to(dtype) for _ in range(INPUTS)]
        self.dy_drawn = (torch.randn(self.T, B, H) * 0.01).to(dtype)

    def on_device(self, tensor):
        return tensor.detach().contiguous().to(self.device).requires_grad_(self.backward)

    def run(self, i=0):
        if not self.backward:
            with self.torch.no_grad():
                return self.forward(self.inputs[i])
        y = self.forward(self.inputs[i])
        self.torch.autograd.grad(y, [self.inputs[i], *self.weights], self.dy)
        return y

    def truth(self):
        """Returns [y, dx, dw_ih, dw_hh, db] in float64, or only those that the pass computes."""
        exact = self.torch.nn.LSTM(*[self.shape[0]] * 2).to(self.device).double()
        exact.load_state_dict(self.reference.state_dict())
        x = self.drawn[0].to(self.device).double().requires_grad_(True)
        y = exact(x)[0]
        wanted = [x, exact.weight_ih_l0, exact.weight_hh_l0, exact.bias_ih_l0]
        dy = self.dy_drawn.to(self.device).double()
        return [y.detach(), *(self.torch.autograd.grad(y, wanted, dy) if self.backward else ())]

    def error(self):
        """Returns the error over all steps, since neither library accepts another length than that of its construction."""
        y = self.forward(self.inputs[0])
        ours = [y, *(self.torch.autograd.grad(y, [self.inputs[0], *self.weights], self.dy) if self.backward else ())]
        return largest_error(*zip(*[(a.detach(), b) for a, b in self.pairs(ours, self.truth())]))


class FlashRnn(Foreign):
    """FlashRNN's fused CUDA kernel: batch-major, Wx (B,T,4,1,H), R (4,1,H,H) and one bias (4,1,H), gates in PyTorch's order. With `product`
    the input projection is part of the pass; without it Wx is the input."""

    def __init__(self, torch, folder, shape, word, dtype, device, backward, product):
        super().__init__(torch, shape, word, dtype, device, backward)
        found = imported(folder, "flashrnn", "FlashRNN")
        while not callable(found):  # the function has the name of its module and package
            if not hasattr(found, "flashrnn"):
                raise Refused("the copy of FlashRNN has no function flashrnn")
            found = found.flashrnn
        self.function, self.product = found, product
        H, B, _ = shape
        r = self.reference
        self.r = self.on_device(r.weight_hh_l0.view(4, 1, H, H))
        self.b = self.on_device(r.bias_ih_l0.view(4, 1, H))
        self.w = self.on_device(r.weight_ih_l0)
        if not product:
            self.flops /= 2
        with torch.no_grad():
            inputs = [x.transpose(0, 1) for x in self.drawn]
            if not product:
                inputs = [(x.to(device) @ self.w.t()).view(B, self.T, 4, 1, H) for x in inputs]
        self.inputs = [self.on_device(x) for x in inputs]
        self.weights = [self.w, self.r, self.b] if product else [self.r, self.b]
        self.dy = self.dy_drawn.transpose(0, 1).contiguous().to(device)

    def forward(self, x):
        H, B, _ = self.shape
        wx = (x @ self.w.t()).view(B, self.T, 4, 1, H) if self.product else x
        name = str(self.dtype).removeprefix("torch.")
        states, _ = self.function(wx, self.r, self.b, function="lstm", backend="cuda_fused", dtype=name)
        return states[0][:, :, 0]  # h, of (2,B,T,1,H)

    def pairs(self, ours, truth):
        """Pairs the results; the gradient of Wx has no counterpart, but those of the tensors that Wx is computed from have."""
        H, names = self.shape[0], ["y", "x", "w_ih", "w_hh", "b"]
        mine = dict(zip(["y", "x", *(["w_ih"] if self.product else []), "w_hh", "b"], ours))
        theirs = dict(zip(names, truth))
        shaped = {"y": lambda t: t.transpose(0, 1), "x": lambda t: t.transpose(0, 1),
                  "w_hh": lambda t: t.reshape(4 * H, H), "b": lambda t: t.reshape(4 * H)}
        return [(shaped.get(name, lambda t: t)(mine[name]), theirs[name]) for name in names
                if name in mine and name in theirs and (self.product or name != "x")]


class Haste(Foreign):
    """Haste's LSTM: weights transposed, gates in the order i, g, f, o, one bias. Its kernels are float32's."""

    def __init__(self, torch, folder, shape, word, dtype, device, backward):
        super().__init__(torch, shape, word, dtype, device, backward)
        H = shape[0]
        self.module = imported(folder, "haste_pytorch", "Haste").LSTM(input_size=H, hidden_size=H)
        r = self.reference
        own = {"kernel": self.reordered(r.weight_ih_l0).t(), "recurrent_kernel": self.reordered(r.weight_hh_l0).t(),
               "bias": self.reordered(r.bias_ih_l0)}
        self.module.load_state_dict(own)
        self.module.to(device).train(backward)
        self.weights = [self.module.kernel, self.module.recurrent_kernel, self.module.bias]
        self.inputs = [self.on_device(x) for x in self.drawn]
        self.dy = self.dy_drawn.to(device)

    def reordered(self, tensor):
        """Reorders rows i, f, g, o to i, g, f, o; the function is its own inverse."""
        i, f, g, o = tensor.detach().chunk(4)
        return self.torch.cat([i, g, f, o]).contiguous()

    def forward(self, x):
        return self.module(x)[0]

    def pairs(self, ours, truth):
        shaped = [lambda t: t, lambda t: t, lambda t: self.reordered(t.t()), lambda t: self.reordered(t.t()), self.reordered]
        return [(make(a), b) for make, a, b in zip(shaped, ours, truth)]
