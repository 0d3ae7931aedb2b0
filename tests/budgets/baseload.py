class Baseload: pass
