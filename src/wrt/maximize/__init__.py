"""The input that excites a unit: objectives, regularisers, transforms, parametrisations and the ascent."""
