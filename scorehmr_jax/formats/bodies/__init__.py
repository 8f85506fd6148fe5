"""First estimates of bodies out of other networks' files; read.py has the table of them."""
