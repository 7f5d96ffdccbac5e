"""Pictures of results; matplotlib is imported when the first one is drawn."""

from wrt.plots.history import history as history
from wrt.plots.maps import maps as maps
from wrt.plots.pairs import pairs as pairs
from wrt.plots.profile import profile as profile
from wrt.plots.relevance import relevance as relevance
from wrt.plots.roc import roc as roc
from wrt.plots.spectrum import spectrum as spectrum
from wrt.plots.support import support as support
from wrt.plots.surface import surface as surface
