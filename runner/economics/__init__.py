"""What a text costs in money, energy and CO2, and from when on a student pays."""
