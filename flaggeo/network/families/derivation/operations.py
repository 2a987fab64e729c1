"""What the operations of torch do to the numbers of an activation, by their names."""


def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


#: They move numbers, repeat some and leave out others.
MOVES = _words(
    "view reshape transpose permute swapaxes swapdims movedim moveaxis t T mT H mH flatten unflatten squeeze unsqueeze "
    "expand expand_as repeat repeat_interleave tile broadcast_to view_as reshape_as chunk split tensor_split "
    "split_with_sizes unbind narrow select index_select gather take_along_dim masked_select flip roll cat concat "
    "concatenate stack hstack vstack pad _pad unfold view_as_complex view_as_real diagonal real __getitem__ as_strided "
    "tril triu squeeze_ unsqueeze_ transpose_ pixel_shuffle pixel_unshuffle"
)
#: Every number stays what it is, up to its size.
KEEPS = _words(
    "to float double half bfloat16 type type_as clone contiguous detach dropout dropout_ alpha_dropout feature_dropout "
    "dropout1d dropout2d dropout3d data cpu masked_fill masked_fill_ clamp clamp_ clamp_min clip nan_to_num neg "
    "__neg__ batch_norm"
)
#: They put together neighbouring positions of each channel.
POOLS = _words(
    "max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d boolean_dispatch interpolate "
    "_max_pool2d upsample"
)
NORMS = _words("layer_norm rms_norm group_norm instance_norm normalize")
ADDS = _words("add add_ __add__ __radd__ __iadd__ sub sub_ __sub__ __rsub__ __isub__ rsub subtract")
TIMES = _words("mul mul_ __mul__ __rmul__ __imul__ multiply div div_ __truediv__ __itruediv__ true_divide divide")
REDUCES = _words("sum mean amax amin max min")
#: They say where the largest numbers are.
CHOOSES = _words("topk argmax sort argsort multinomial")
#: They put numbers in the place of others.
PUTS = _words("__setitem__ index_put index_put_ copy_ masked_scatter masked_scatter_")
#: The same with whole rows, or add them.
PUTS_ALONG = _words("index_add index_add_ index_copy index_copy_ scatter scatter_ scatter_add scatter_add_")
#: They turn numbers into weights of positions.
WEIGHS = _words("softmax log_softmax")
#: What they return is made of no number of the activation.
ASKS = _words(
    "zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones new_empty new_full new_tensor "
    "size dim shape __len__ numel stride is_floating_point is_complex device dtype ndim __eq__ __ne__ __lt__ __gt__ "
    "__le__ __ge__ eq ne lt gt le ge isnan isinf any all tolist item __bool__ is_contiguous __hash__ requires_grad "
    "nonzero nelement get_device layout is_cuda is_meta grad_fn __format__ __repr__ __contains__ logical_not"
)
