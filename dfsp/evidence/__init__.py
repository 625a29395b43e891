"""Who was counted, and according to whom: tables of counts and the evidence behind them."""
