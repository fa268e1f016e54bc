"""An app without task tables."""

from holdfast import Holdfast

app = Holdfast()
