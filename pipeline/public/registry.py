"""The layouts that `bindcache import --from` knows, by name."""

from collections.abc import Mapping

from pipeline.public.abbibench import ABBIBENCH
from pipeline.public.alphabind import ALPHABIND
from pipeline.public.alphaseq import ALPHASEQ
from pipeline.public.flab import FLAB
from pipeline.public.layout import Layout
from pipeline.public.sabdab import SABDAB
from pipeline.public.skempi2 import SKEMPI2

LAYOUTS: Mapping[str, Layout] = {
    "skempi2": SKEMPI2,
    "sabdab": SABDAB,
    "flab": FLAB,
    "abbibench": ABBIBENCH,
    "alphaseq": ALPHASEQ,
    "alphabind": ALPHABIND,
}
