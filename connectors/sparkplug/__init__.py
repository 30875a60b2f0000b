"""Sparkplug B: records sent to a broker the way that SCADA hosts read them."""
