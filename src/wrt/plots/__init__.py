"""Pictures of results; matplotlib is imported when the first one is drawn."""

from wrt.plots.history import history as history
from wrt.plots.maps import maps as maps
from wrt.plots.relevance import relevance as relevance
from wrt.plots.support import support as support
